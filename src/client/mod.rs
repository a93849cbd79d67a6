//! The daemon from a terminal: its REST API, its events, and a person who answers.

mod api;
mod error;
mod events;
mod follow;
mod person;
mod sse;

pub use api::{Api, Task};
pub use error::ClientError;
pub use events::{Events, Followed};
pub use follow::{Follow, Undecided, exit, follow};
pub use person::Person;
