//! Tests of the planners in the agent loop, on a scripted engine and a site in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod episodes;
mod judges;
mod overseer;
mod prompts;
mod scripted;
