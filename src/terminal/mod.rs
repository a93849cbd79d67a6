//! The terminal: the live view of a run, the view of a daemon's task, and the person who answers its questions.

#[cfg(feature = "daemon")]
mod follow;
#[cfg(feature = "daemon")]
mod person;
mod view;

#[cfg(feature = "daemon")]
pub use follow::{FollowOptions, WhenUndecided, exit_code, follow, service_event};
pub use view::LiveView;
