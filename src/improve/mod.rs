//! The improvement loop's hands: it plays episodes, trains in a child process, and puts into service what has proved better.

pub mod field;
pub mod update;
