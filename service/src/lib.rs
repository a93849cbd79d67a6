//! Milepost's daemon without its protocols: a durable queue, workers, leases, approvals, events and webhooks.
//!
//! [`Service`] is the entry point. Tasks are carried out by a [`Runner`], which the daemon supplies (an agent with a browser and a model);
//! a runner reports and requests approvals through its [`TaskHandle`]. All state that must survive a `kill -9` is in one SQLite file, and
//! every change to a task is one transaction together with the events that it causes.
//!
//! ```text
//! submit → queued → running → done | failed | cancelled
//!             ↑        ↕ needs_approval (a person decides; the worker is free meanwhile)
//!             └────────┴─ interrupted (the run was lost after it had acted: a person resumes or cancels the task)
//! ```
//!
//! The modules form layers, and each uses only those above it in this list:
//!
//! ```text
//! types       state, error, sync, submission, approval, record, event, report, listing, stats, config, webhook, request_ids
//! lifecycle   the state transitions of a record
//! broadcast   the newest events in memory
//! store       SQLite: transactions (published to `broadcast` after the commit), reads, the outbox
//! job, core   the state of a running task; the state that all parts share
//! follow, delivery, admission, recovery, retention, probe    event streams, webhooks, submitting, lost tasks, old tasks, health
//! handle, runner                                      the interface of a running task; the trait that runs tasks
//! supervisor, dispatch, drain                         running one task, starting tasks, shutting down
//! service     the public operations
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod admission;
mod approval;
mod broadcast;
mod config;
mod core;
mod delivery;
mod dispatch;
mod drain;
mod error;
mod event;
mod follow;
mod handle;
mod job;
mod lifecycle;
mod listing;
mod probe;
mod record;
mod recovery;
mod report;
mod request_ids;
mod retention;
mod runner;
mod service;
mod state;
mod stats;
mod store;
mod submission;
mod supervisor;
mod sync;
mod webhook;

pub use approval::{ApprovalRequest, Decision};
pub use config::{ServiceConfig, WebhookConfig};
pub use error::{Error, Result};
pub use event::{EventKind, PlanLine, TaskEvent};
pub use follow::EventStream;
pub use handle::TaskHandle;
pub use listing::{Submitted, TaskFilter, TaskPage};
pub use record::{Feedback, TaskRecord};
pub use report::{Report, RunFailure};
pub use request_ids::RequestIds;
pub use runner::{Job, Runner};
pub use service::{Ports, Service};
pub use state::{CancelCause, TaskState};
pub use stats::{Drained, Load, ProfileLease, Stats};
pub use submission::{CapabilityRequest, LimitsRequest, Submission};
pub use webhook::{SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookRequest, WebhookSender, signature};
