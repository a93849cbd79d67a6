//! Section `service` of the configuration.

use serde::{Deserialize, Serialize};

/// The service's settings. None comes from a paper; each says why it is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Tasks that run at once: each has a browser of its own.
    pub workers: usize,
    /// Tasks of one caller that run at once.
    pub per_caller_running: usize,
    /// Tasks that may wait; one more is refused.
    pub queue_limit: usize,
    /// Tasks of one caller that may wait; one more is refused.
    pub per_caller_queued: usize,
    /// Tasks that may wait for a person without keeping their worker; each keeps its browser open.
    pub waiting_limit: usize,
    /// A runner that is silent for so long is taken for hung.
    pub lease_seconds: u64,
    /// A cancelled runner has so long to end by itself.
    pub cancel_seconds: u64,
    /// A drain gives running tasks so long.
    pub drain_seconds: u64,
    /// Starts of a task before a person must say that it should be tried again.
    pub max_attempts: u32,
    /// Wait before another attempt, times the attempts so far; also what a refused caller is told.
    pub retry_after_seconds: u64,
    /// A task without a deadline has so long from when it was handed in; 0 is for ever.
    pub deadline_seconds: u64,
    /// Ended tasks and their events are kept for so many days; 0 is for ever.
    pub retention_days: u32,
    /// Events of a task that are kept in memory for its followers.
    pub tail: usize,
    /// Webhooks.
    pub webhooks: WebhookConfig,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            workers: 2,
            per_caller_running: 2,
            queue_limit: 1000,
            per_caller_queued: 500,
            waiting_limit: 4,
            lease_seconds: 180,
            cancel_seconds: 10,
            drain_seconds: 30,
            max_attempts: 3,
            retry_after_seconds: 5,
            deadline_seconds: 86_400,
            retention_days: 90,
            tail: 256,
            webhooks: WebhookConfig::default(),
        }
    }
}

/// How webhooks are delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Tries before one is given up.
    pub attempts: u32,
    /// Wait after the first failed try; it doubles with each.
    pub backoff_seconds: u64,
    /// Longest wait between two tries.
    pub backoff_limit_seconds: u64,
    /// A try takes at most so long.
    pub timeout_seconds: u64,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { attempts: 8, backoff_seconds: 5, backoff_limit_seconds: 3600, timeout_seconds: 15 }
    }
}
