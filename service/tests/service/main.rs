//! Tests of the service on a real SQLite file, with runs that the test controls.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod drain;
mod followers;
mod harness;
mod people;
mod queue;
mod recovery;
mod storage;
mod webhooks;
