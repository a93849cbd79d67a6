//! The improvement loop's hands: it plays episodes, trains in a child process, and puts into service what has proved better.

pub mod begun;
pub mod config;
pub mod experts;
pub mod field;
pub mod recorded;
pub mod runs;
pub mod schedule;
pub mod tasks;
pub mod update;
pub mod workshop;
