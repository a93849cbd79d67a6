//! A task, its limits, and the capability that bounds it.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::action::{Action, ActionKind};
use crate::check::Check;
use crate::error::{Error, Result};

/// What somebody wants done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Unique id (UUID v7).
    pub id: String,
    /// The goal in words.
    pub goal: String,
    /// Where to begin (http or https).
    pub start_url: Url,
    /// Bounds on the run.
    pub limits: Limits,
    /// What the run may do; resolved before the first page is read.
    pub capability: Capability,
    /// The caller's own definition of done.
    pub check: Option<Check>,
    /// The suite's task that this is; `None` for a person's or program's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// What a task's seed may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training.
    Train,
    /// Gates and checkpoint choice.
    Validation,
    /// Reported only.
    Test,
}

/// The suite's task behind a [`Task`]: what decides whether its episodes may enter training.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The template's id.
    pub template: String,
    /// The instance's seed.
    pub seed: u64,
    /// What the seed may be used for.
    pub split: Split,
    /// Whether the template is kept out of all training and gating.
    pub held_out: bool,
}

impl Source {
    /// Whether what is done in it may be trained on.
    pub fn is_trainable(&self) -> bool {
        self.split == Split::Train && !self.held_out
    }
}

impl Task {
    /// A task with default limits, confined to the start URL's host.
    ///
    /// # Errors
    /// An empty goal, or an address that is not http or https.
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

/// Bounds on one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most turns.
    pub max_steps: u32,
    /// Most seconds in all.
    pub max_seconds: u64,
    /// The same action on the same page so many times is a stall.
    pub same_action: u32,
    /// So many turns without a new milestone are a stall.
    pub no_milestone: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_steps: 60, max_seconds: 600, same_action: 3, no_milestone: 8 }
    }
}

/// What a run may do: it is fixed before a page is read, a plan can only narrow it, page text cannot touch it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Hosts (`name` or `name:port`, or `*.suffix`) that may be reached.
    pub hosts: Vec<String>,
    /// Action kinds that may be used.
    pub action_kinds: Vec<ActionKind>,
    /// Tools that may be called.
    pub tools: Vec<String>,
    /// Secrets that may be typed.
    pub secrets: Vec<String>,
}

impl Capability {
    /// The default: the start URL's host, all action kinds, `fetch`, no secrets.
    pub fn for_host(url: &Url) -> Self {
        Self {
            hosts: vec![authority(url)],
            action_kinds: vec![
                ActionKind::Click,
                ActionKind::Type,
                ActionKind::Select,
                ActionKind::Press,
                ActionKind::Scroll,
                ActionKind::Goto,
                ActionKind::Back,
                ActionKind::Wait,
                ActionKind::Call,
                ActionKind::Answer,
                ActionKind::Stop,
            ],
            tools: vec!["fetch".into()],
            secrets: Vec::new(),
        }
    }

    /// Whether an address may be reached.
    pub fn allows_url(&self, url: &Url) -> bool {
        let (host, full) = (url.host_str().unwrap_or_default().trim_end_matches('.'), authority(url));
        matches!(url.scheme(), "http" | "https")
            && self.hosts.iter().any(|rule| match rule.strip_prefix("*.") {
                Some(suffix) => host.strip_suffix(suffix).is_some_and(|front| front.ends_with('.')),
                None => *rule == full || (*rule == host && url.port().is_none()),
            })
    }

    /// A person approved an action: the host that it goes to may be reached from now on. Nothing else is widened.
    pub fn widen(&mut self, action: &Action, at: &Url) {
        let target = match action {
            Action::Goto(target) => Some(target.as_str()),
            Action::Call { arguments, .. } => arguments.get("url").and_then(|url| url.as_str()),
            _ => None,
        };
        if let Some(url) = target.and_then(|target| at.join(target).ok()).filter(|url| !self.allows_url(url)) {
            self.hosts.push(authority(&url));
        }
    }

    /// Why an action is outside the capability, if it is; `at` is the current page.
    pub fn refuses(&self, action: &Action, at: &Url) -> Option<String> {
        if !self.action_kinds.contains(&action.kind()) {
            return Some(format!("the action `{action}` is not among the kinds this task may use"));
        }
        let outside = |target: &str| match at.join(target) {
            Ok(url) if self.allows_url(&url) => None,
            _ => Some(format!("{target} is outside the hosts this task may reach ({})", self.hosts.join(", "))),
        };
        match action {
            Action::Goto(target) => outside(target),
            Action::Call { tool, arguments } => {
                if !self.tools.contains(tool) {
                    return Some(format!("the tool {tool:?} is not among those this task may call"));
                }
                arguments.get("url").and_then(|url| url.as_str()).and_then(outside)
            }
            Action::Type { text, .. } => crate::secrets::names(text)
                .into_iter()
                .find(|name| !self.secrets.contains(name))
                .map(|name| format!("the secret {name:?} is not among those this task may use")),
            _ => None,
        }
    }
}

/// `host` or `host:port` of an address.
pub fn authority(url: &Url) -> String {
    match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}
