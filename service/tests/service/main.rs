//! The service on a real SQLite file, with runners in the test's hands.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod drain;
mod followers;
mod people;
mod queue;
mod recovery;
mod stage;
mod webhooks;
