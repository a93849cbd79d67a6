//! Section `service` of the configuration.

use serde::{Deserialize, Serialize};

/// The service's settings. None comes from a paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// The maximum number of tasks that run at once; each has a browser of its own.
    pub workers: usize,
    /// The maximum number of tasks of one caller that run at once.
    pub per_caller_running: usize,
    /// The maximum number of queued tasks; a further one is refused.
    pub queue_limit: usize,
    /// The maximum number of queued tasks of one caller; a further one is refused.
    pub per_caller_queued: usize,
    /// The maximum number of tasks that give up their worker while they wait for a person; each keeps its browser open.
    pub waiting_limit: usize,
    /// Seconds of silence after which a runner is considered hung.
    pub lease_seconds: u64,
    /// Seconds that a cancelled runner has to end before it is aborted.
    pub cancel_seconds: u64,
    /// Seconds that running tasks have to end when the service shuts down.
    pub drain_seconds: u64,
    /// The maximum number of attempts at a task; a person who resumes an interrupted task allows as many again.
    pub max_attempts: u32,
    /// Seconds before another attempt, times the number of attempts so far; also the waiting time in the error that refuses a submission.
    pub retry_after_seconds: u64,
    /// Seconds from its submission after which a task without a deadline of its own expires; 0 means never.
    pub deadline_seconds: u64,
    /// Days for which ended tasks and their events are kept; 0 means for ever.
    pub retention_days: u32,
    /// Number of newest events of a task that are kept in memory for its followers.
    pub tail: usize,
    /// Settings of webhooks.
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

/// Settings of the delivery of webhooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Number of failed attempts after which a webhook is given up.
    pub attempts: u32,
    /// Seconds to wait after the first failed attempt; the wait doubles with each further one.
    pub backoff_seconds: u64,
    /// The maximum number of seconds between two attempts.
    pub backoff_limit_seconds: u64,
    /// The maximum number of seconds that one attempt may take.
    pub timeout_seconds: u64,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { attempts: 8, backoff_seconds: 5, backoff_limit_seconds: 3600, timeout_seconds: 15 }
    }
}
