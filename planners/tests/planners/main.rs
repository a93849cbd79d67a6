//! Planners and loop, on a scripted engine and a site in memory.
#![allow(clippy::unwrap_used)]

mod episodes;
mod judges;
mod prompts;
mod scripted;
