//! A client of Milepost's daemon for Rust programs: it submits web tasks, reads them, and follows their events.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use milepost_client::{Api, Events, Followed};
//!
//! let api = Api::new("http://127.0.0.1:7420".parse()?, "the daemon's token")?;
//! let task = api.submit(&serde_json::json!({ "goal": "Find the price", "url": "https://shop.example/" })).await?;
//! let mut events = Events::new(&api, Followed::Task(task.id.clone()), 0);
//! while let Some(event) = events.next().await? {
//!     println!("{} {}", event.seq, event.kind);
//! }
//! println!("{:?}", api.task(&task.id).await?.answer);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod api;
mod error;
mod events;

pub use api::{Api, Task, TaskState};
pub use error::ClientError;
pub use events::{Event, Events, Followed};
