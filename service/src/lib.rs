//! Milepost's daemon without its protocols: a durable queue, workers, leases, approvals, events, webhooks.
//!
//! [`Service`] is the whole of it. Whoever carries a task out (a browser and a model) is a [`Runner`], which the binary brings; whatever
//! a runner wants to say or ask goes over its [`Desk`]. All that must outlive a `kill -9` is in one SQLite file, and every change to a
//! task is one transaction of it together with the events that it makes.
//!
//! ```text
//! submit → queued → running → done | failed | cancelled
//!             ↑        ↕ needs_approval (a person decides; the worker is free meanwhile)
//!             └────────┴─ interrupted (it died after it had acted: a person resumes or cancels)
//! ```

mod config;
mod core;
mod desk;
mod drain;
mod error;
mod event;
mod feed;
mod job;
mod lifecycle;
mod post;
mod record;
mod runner;
mod service;
mod store;
mod submission;
mod webhook;
mod worker;

pub use config::{ServiceConfig, WebhookConfig};
pub use desk::Desk;
pub use error::{Error, Result};
pub use event::{EventKind, PlanLine, TaskEvent};
pub use record::{
    ApprovalRequest, Cause, Decision, Drained, Feedback, Filter, Load, Page, ProfileLease, Stats, Submitted, TaskRecord, TaskState,
};
pub use runner::{Job, Report, RunFailure, Runner};
pub use service::{EventStream, Ports, Service};
pub use submission::{CapabilityRequest, LimitsRequest, Submission};
pub use webhook::{Deliver, Delivery, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature};
