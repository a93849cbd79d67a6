//! The errors of starting and ending the daemon, and the error responses of requests.

mod lifecycle;
mod problem;
mod responses;

pub use lifecycle::{Error, Result};
pub use problem::Problem;
pub use responses::{CommonErrors, NotFound, QueueFull, WriteErrors};
