//! Submissions: tasks as callers submit them.

use chrono::{DateTime, Utc};
use milepost_runtime::{ActionKind, Check, Limits, Task};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::error::{Error, Result};

/// The maximum length of a goal in bytes: a longer one would not fit a prompt.
const GOAL_BYTES: usize = 16_384;
/// The maximum length of a name (profile, secret, idempotency key) in bytes.
const NAME_BYTES: usize = 128;

/// The limits that a caller asks for; a field that is left out takes the configuration's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRequest {
    /// The maximum number of turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u32>,
    /// The maximum duration of the run in seconds, without the time spent waiting for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u64>,
    /// Number of times that the same action on the same page must be repeated to count as a stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_action: Option<u32>,
    /// Number of turns without a new milestone that count as a stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_milestone: Option<u32>,
}

/// The permissions that a caller asks for; the start URL's host is always among the hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapabilityRequest {
    /// Further hosts that may be reached (`name`, `name:port` or `*.suffix`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// The action kinds that may be used, instead of the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_kinds: Option<Vec<ActionKind>>,
    /// The tools that may be called, instead of the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
}

/// A web task as a caller submits it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The goal in words.
    pub goal: String,
    /// The address of the first page (http or https).
    pub url: Url,
    /// Limits of the run.
    #[serde(default)]
    pub limits: LimitsRequest,
    /// Name of the planner; `None` for the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner: Option<String>,
    /// Permissions of the run; `None` for the start URL's host with the default action kinds and tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<CapabilityRequest>,
    /// The caller's own condition for success, as the text of a [`Check`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Names of the secrets that may be typed; their values are known to the daemon and are no part of a submission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// JSON schema of the output that is requested in addition to the answer's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Address that is notified when the task ends, is interrupted or needs approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Url>,
    /// Key by which a repeated request is recognised: the same key and body from the same caller are the same task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Whether the task may be run again after a crash although it had side effects.
    #[serde(default)]
    pub idempotent: bool,
    /// Priority from -100 to 100; tasks with a higher one start first.
    #[serde(default)]
    pub priority: i16,
    /// Time by which the task must have ended, waiting included; `None` for the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Name of a browser profile, which only one task uses at a time; `None` for a fresh profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Seed of all sampling in the run.
    #[serde(default)]
    pub seed: u64,
}

impl Submission {
    /// Makes a submission of a goal and an address, with defaults for everything else.
    pub fn new(goal: &str, url: Url) -> Self {
        Self {
            goal: goal.to_owned(),
            url,
            limits: LimitsRequest::default(),
            planner: None,
            capability: None,
            check: None,
            secrets: Vec::new(),
            output_schema: None,
            webhook: None,
            idempotency_key: None,
            idempotent: false,
            priority: 0,
            deadline: None,
            profile: None,
            seed: 0,
        }
    }

    /// Makes the runtime's task with this id; `defaults` are used for limits that the submission leaves out.
    ///
    /// # Errors
    /// A field is invalid; the error names the field and the fix.
    pub fn task(&self, id: &str, defaults: &Limits) -> Result<Task> {
        let invalid = |field: &'static str| move |error: milepost_runtime::Error| Error::Invalid { field, reason: error.to_string() };
        let mut task = Task::new(&self.goal, self.url.as_str()).map_err(invalid("goal or url"))?;
        id.clone_into(&mut task.id);
        task.limits = Limits {
            max_steps: self.limits.max_steps.unwrap_or(defaults.max_steps),
            max_seconds: self.limits.max_seconds.unwrap_or(defaults.max_seconds),
            same_action: self.limits.same_action.unwrap_or(defaults.same_action),
            no_milestone: self.limits.no_milestone.unwrap_or(defaults.no_milestone),
        };
        task.check = self.check.as_deref().map(Check::parse).transpose().map_err(invalid("check"))?;
        let wanted = self.capability.clone().unwrap_or_default();
        task.capability.hosts.extend(wanted.hosts.unwrap_or_default());
        if let Some(kinds) = wanted.action_kinds {
            task.capability.action_kinds = kinds;
        }
        if let Some(tools) = wanted.tools {
            task.capability.tools = tools;
        }
        task.capability.secrets.clone_from(&self.secrets);
        Ok(task)
    }

    /// Checks the fields, except the deadline.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field and the fix.
    pub fn validate(&self) -> Result<()> {
        self.task("", &Limits::default())?;
        let refuse = |field, reason: &str| Err(Error::Invalid { field, reason: reason.to_owned() });
        if self.goal.len() > GOAL_BYTES {
            return refuse("goal", "it is longer than 16,384 bytes; say it shorter");
        }
        if !(-100..=100).contains(&self.priority) {
            return refuse("priority", "it must be from -100 to 100");
        }
        if [self.limits.max_steps, self.limits.same_action, self.limits.no_milestone].contains(&Some(0))
            || self.limits.max_seconds == Some(0)
        {
            return refuse("limits", "0 is no limit that a task can keep; leave it out for the default");
        }
        if self.webhook.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https") || url.host_str().is_none()) {
            return refuse("webhook", "it must be an http or https address");
        }
        if self.output_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            return refuse("output_schema", "it must be a JSON schema, which is an object");
        }
        if self.idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > NAME_BYTES) {
            return refuse("idempotency_key", "it must have 1 to 128 bytes");
        }
        if self.profile.as_ref().is_some_and(|name| !is_name(name)) {
            return refuse("profile", "a name has 1 to 128 letters, digits, `-` and `_`");
        }
        if self.secrets.iter().any(|name| !is_name(name)) {
            return refuse("secrets", "a name has 1 to 128 letters, digits, `-` and `_`; give names, never values");
        }
        Ok(())
    }

    /// Checks that the deadline is in the future. This is for new tasks only: a repeated request may come after its deadline.
    pub(crate) fn check_deadline(&self) -> Result<()> {
        match self.deadline.is_some_and(|deadline| deadline <= Utc::now()) {
            true => Err(Error::Invalid { field: "deadline", reason: "it has passed already".into() }),
            false => Ok(()),
        }
    }

    /// Returns the SHA-256 of the submission in hex, which distinguishes a repeated request from a different one with the same idempotency
    /// key.
    pub(crate) fn hash(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Returns true if the text may name a profile or a secret.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
