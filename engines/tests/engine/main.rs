//! End-to-end tests of the engines, on tiny random models that are made here and a mock of an OpenAI-protocol server.
//!
//! Each rule of the mistralrs backend has a test that fails when the rule is dropped.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod adapters;
mod decoding;
mod formats;
mod grammars;
mod hub;
mod model;
mod refusals;
mod remote;
mod swaps;
