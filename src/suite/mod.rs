//! Plays the bundled suite in real Chromium or in the plain reader.

mod environment;
mod in_process;

pub use environment::{EpisodeEnvironment, PlainSuite, play, play_outcome};
pub use in_process::{InProcess, InProcessFetch};
