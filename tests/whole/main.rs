//! Tests of the whole program without a browser: the command line, the bundled suite in the plain reader, training and improvement, and the
//! episode store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapters;
mod canary;
mod command_line;
mod fixture;
mod generations;
mod improve;
mod native;
mod recording;
mod remote;
mod round_outcomes;
mod suite;
