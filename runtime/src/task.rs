//! A task, its limits, and the capability that confines it.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::action::{Action, ActionKind};
use crate::check::Check;
use crate::error::{Error, Result};
use crate::hosts::HostRule;

/// A task for the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Unique id (UUID v7).
    pub id: String,
    /// The goal in words.
    pub goal: String,
    /// The address of the first page (http or https).
    pub start_url: Url,
    /// Limits of the run.
    pub limits: Limits,
    /// The permissions of the run; resolved before the first page is read.
    pub capability: Capability,
    /// The caller's own check of whether the task is done.
    pub check: Option<Check>,
    /// The suite's task behind this one; `None` for a task of a person or a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// The split of a suite to which a task belongs; it decides what the task may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training.
    Train,
    /// Gates and the choice of checkpoints.
    Validation,
    /// Reports only.
    Test,
}

impl Split {
    /// Returns the split that a task's seed belongs to.
    pub fn of(seed: u64) -> Self {
        match seed {
            0..9_000 => Self::Train,
            9_000..10_000 => Self::Validation,
            _ => Self::Test,
        }
    }

    /// Returns the seeds of the split.
    pub fn seeds(self) -> std::ops::Range<u64> {
        match self {
            Self::Train => 0..9_000,
            Self::Validation => 9_000..10_000,
            Self::Test => 10_000..u64::MAX,
        }
    }
}

/// The suite's task behind a [`Task`]. It decides whether the episodes may be trained on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The template's id.
    pub template: String,
    /// The instance's seed.
    pub seed: u64,
    /// The split of the seed.
    pub split: Split,
    /// Whether the template is kept out of all training and gating.
    pub held_out: bool,
}

impl Source {
    /// Whether episodes of this task may be trained on.
    pub fn is_trainable(&self) -> bool {
        self.split == Split::Train && !self.held_out
    }
}

impl Task {
    /// Makes a task with default limits, confined to the start URL's host.
    ///
    /// # Errors
    /// The goal is empty, or the address is not http or https.
    pub fn new(goal: &str, start_url: &str) -> Result<Self> {
        let goal = goal.trim();
        if goal.is_empty() {
            return Err(Error::BadInput(
                "the goal is empty; say what should be done, as in `milepost run \"Find the price of …\" --url http://…`".into(),
            ));
        }
        let url = Url::parse(start_url).map_err(|error| {
            Error::BadInput(format!("the URL {start_url:?} cannot be read: {error}; give a whole address such as https://example.org/"))
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(Error::BadInput(format!("the URL {start_url:?} is not http or https; only web pages can be opened")));
        }
        let capability = Capability::for_host(&url);
        Ok(Self {
            id: uuid::Uuid::now_v7().to_string(),
            goal: goal.to_owned(),
            start_url: url,
            limits: Limits::default(),
            capability,
            check: None,
            source: None,
        })
    }
}

/// Limits of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The maximum number of turns.
    pub max_steps: u32,
    /// The maximum duration in seconds.
    pub max_seconds: u64,
    /// The number of times that the same action is tried on the same page before that counts as a stall.
    pub same_action: u32,
    /// The number of turns without a new milestone that counts as a stall.
    pub no_milestone: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_steps: 60, max_seconds: 600, same_action: 3, no_milestone: 8 }
    }
}

/// The permissions of a run. They are fixed before a page is read; a plan can only narrow them, and a page's text cannot change them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Rules for the hosts that may be reached (see [`crate::hosts`]).
    pub hosts: Vec<String>,
    /// Action kinds that may be used.
    pub action_kinds: Vec<ActionKind>,
    /// Tools that may be called.
    pub tools: Vec<String>,
    /// Secrets that may be typed.
    pub secrets: Vec<String>,
}

impl Capability {
    /// Makes the default capability: the start URL's host, every action kind that is granted by default, `fetch`, no secrets.
    pub fn for_host(url: &Url) -> Self {
        Self {
            hosts: vec![authority(url)],
            action_kinds: ActionKind::ALL.iter().copied().filter(|kind| kind.is_granted_by_default()).collect(),
            tools: vec!["fetch".into()],
            secrets: Vec::new(),
        }
    }

    /// Whether an address may be reached. A rule that cannot be parsed allows nothing.
    pub fn allows_url(&self, url: &Url) -> bool {
        self.hosts.iter().filter_map(|rule| HostRule::parse(rule).ok()).any(|rule| rule.matches(url))
    }

    /// Allows the host that an action goes to, after a person approved the action; `at` is the current page. Nothing else is allowed: an
    /// address whose host would be parsed as a wildcard, or that is not http or https, adds nothing.
    pub fn widen(&mut self, action: &Action, at: &Url) {
        for url in action.network_targets().into_iter().filter_map(|target| at.join(target).ok()) {
            let host = authority(&url);
            if !self.allows_url(&url) && HostRule::parse(&host).is_ok_and(|rule| !rule.is_wildcard() && rule.matches(&url)) {
                self.hosts.push(host);
            }
        }
    }

    /// Returns why an action is outside the capability, if it is; `at` is the current page.
    pub fn refuses(&self, action: &Action, at: &Url) -> Option<String> {
        if !self.action_kinds.contains(&action.kind()) {
            return Some(format!("the action `{action}` is not among the kinds this task may use"));
        }
        if let Some(tool) = action.tool().filter(|tool| !self.tools.iter().any(|known| known == tool)) {
            return Some(format!("the tool {tool:?} is not among those this task may call"));
        }
        let outside = |target: &&str| !at.join(target).is_ok_and(|url| self.allows_url(&url));
        if let Some(target) = action.network_targets().into_iter().find(outside) {
            return Some(format!("{target} is outside the hosts this task may reach ({})", self.hosts.join(", ")));
        }
        let unknown = action.secrets().into_iter().find(|name| !self.secrets.contains(name))?;
        Some(format!("the secret {unknown:?} is not among those this task may use"))
    }
}

/// Returns `host` or `host:port` of an address.
pub fn authority(url: &Url) -> String {
    match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}
