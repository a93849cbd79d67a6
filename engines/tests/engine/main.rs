//! The engines, end to end: tiny random models made here, a mock of an OpenAI-protocol server.
//!
//! Each rule by which the local engine is driven has a test that fails when the rule is dropped.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod adapters;
mod decoding;
mod formats;
mod grammars;
mod model;
mod refusals;
mod remote;
mod swaps;
