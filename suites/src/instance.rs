//! One task on one site with one state: its goal, its checker, its reference milestones and its oracle.

mod draft;

use std::sync::Arc;

use axum::Router;
use milepost_runtime::{Check, Error, Result, Secrets, Source, Task};
use url::Url;

pub(crate) use draft::Draft;

use crate::facts::{FactLog, contains, words};
use crate::oracle::Oracle;
use crate::seeded::Rng;
use crate::served::Served;
use crate::site::{Shared, Site, lock};

/// A stage of the task, checked on the page by `check`; whether it is truly reached is read from the server's state.
#[derive(Clone, Debug)]
pub struct ReferenceMilestone {
    /// The stage in words.
    pub text: String,
    /// The check that recognises the stage on a page.
    pub check: Check,
}

/// A condition on a site's state.
type Condition<S> = Box<dyn Fn(&S) -> bool + Send + Sync>;

/// The condition under which the server's state has reached a milestone.
struct Truth<S> {
    holds: Condition<S>,
    /// Whether it is a change that the goal asks for, and not only a stage on the way to one.
    is_change: bool,
}

/// The checks on a site's state that an instance needs, whichever site it is.
trait StateChecks: Send + Sync {
    /// Builds the router of the site's pages.
    fn router(&self) -> Router;
    /// Returns which milestones the state has reached.
    fn truths(&self) -> Vec<bool>;
    /// Returns whether every change that the goal asks for is made.
    fn changed(&self) -> bool;
    /// Returns whether the changes without a milestone are made, and nothing else was changed.
    fn guarded(&self) -> bool;
}

/// A site's state with the conditions on it.
struct CheckedState<S> {
    state: Shared<S>,
    truths: Vec<Truth<S>>,
    /// Changes that the goal asks for and that have no milestone.
    unseen_changes: Vec<Condition<S>>,
    /// Conditions that hold as long as nothing else was changed.
    guards: Vec<Condition<S>>,
}

impl<S: Site> StateChecks for CheckedState<S> {
    fn router(&self) -> Router {
        S::router(self.state.clone())
    }

    fn truths(&self) -> Vec<bool> {
        let state = lock(&self.state);
        self.truths.iter().map(|truth| (truth.holds)(&state)).collect()
    }

    fn changed(&self) -> bool {
        let state = lock(&self.state);
        self.truths.iter().filter(|truth| truth.is_change).all(|truth| (truth.holds)(&state))
            && self.unseen_changes.iter().all(|holds| holds(&state))
    }

    fn guarded(&self) -> bool {
        let state = lock(&self.state);
        self.unseen_changes.iter().chain(&self.guards).all(|holds| holds(&state))
    }
}

/// Writes the instance of a template with the random choices of a seed.
pub(crate) type Build = fn(&mut Rng) -> Instance;

/// The template and seed from which an instance was made.
struct Origin {
    build: Build,
    source: Source,
}

/// One seeded task with a state of its own, to be served once and played once.
pub struct Instance {
    origin: Option<Origin>,
    facts: Arc<FactLog>,
    goal: String,
    start: &'static str,
    secrets: Vec<(String, String)>,
    milestones: Vec<ReferenceMilestone>,
    oracle: Oracle,
    checks: Box<dyn StateChecks>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("goal", &self.goal).field("start", &self.start).finish_non_exhaustive()
    }
}

impl Instance {
    /// Makes the instance of a template and seed; it is the same on every platform.
    pub(crate) fn make(build: Build, source: Source) -> Self {
        Self { origin: Some(Origin { build, source: source.clone() }), ..build(&mut Rng::new(&source.template, source.seed)) }
    }

    /// Makes the same task once more, with the state that it had at the start.
    pub fn fresh_copy(&self) -> Option<Self> {
        self.origin.as_ref().map(|origin| Self::make(origin.build, origin.source.clone()))
    }

    /// Returns its template and seed, which name it.
    pub(crate) fn name(&self) -> String {
        self.origin.as_ref().map(|Origin { source, .. }| format!("{} {}", source.template, source.seed)).unwrap_or_default()
    }

    /// Returns the goal in words.
    pub fn goal(&self) -> &str {
        &self.goal
    }

    /// Returns the path of the first page.
    pub fn start_path(&self) -> &str {
        self.start
    }

    /// Returns the names and values of the secrets that the task may type.
    pub fn secrets(&self) -> &[(String, String)] {
        &self.secrets
    }

    /// Returns the secrets that the task may type, bound to the site at `base`.
    pub fn bound_secrets(&self, base: &Url) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in &self.secrets {
            secrets.add(name, value, base);
        }
        secrets
    }

    /// Builds the site over this instance's state, for use without a socket.
    pub fn router(&self) -> Router {
        FactLog::watch(&self.facts, self.checks.router())
    }

    /// Serves the site on a free loopback port until the result is dropped.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn serve(&self) -> Result<Served> {
        self.serve_on(0).await
    }

    /// Serves the site on this loopback port (0: a free one) until the result is dropped.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn serve_on(&self, port: u16) -> Result<Served> {
        Served::start(self.router(), port).await
    }

    /// Makes the task for the agent loop, confined to the site at `base`, with `fetch` and this instance's secrets.
    ///
    /// # Errors
    /// `base` is no http address.
    pub fn task(&self, base: &Url) -> Result<Task> {
        let start =
            base.join(self.start).map_err(|error| Error::BadInput(format!("{base} cannot hold the path {}: {error}", self.start)))?;
        let mut task = Task::new(&self.goal, start.as_str())?;
        task.capability.secrets = self.secrets.iter().map(|(name, _)| name.clone()).collect();
        task.source = self.origin.as_ref().map(|origin| origin.source.clone());
        Ok(task)
    }

    /// Returns the policy that solves the task.
    pub fn oracle(&self) -> Oracle {
        self.oracle.clone()
    }

    /// Returns the stages of the task, as they are seen on pages.
    pub fn milestones(&self) -> Vec<ReferenceMilestone> {
        self.milestones.clone()
    }

    /// Returns which stages the server's state has reached, in the order of [`milestones`](Self::milestones).
    pub fn truths(&self) -> Vec<bool> {
        self.checks.truths()
    }

    /// Returns whether the site served every fact that the goal needs, and its state has every change that the goal asks for. Answer,
    /// thoughts and the order of actions do not matter (completeness, RLTR, 2508.19598, section 3.2). Changes beyond that are for the
    /// checker ([`success`](Self::success)).
    pub fn complete(&self) -> bool {
        self.facts.all_served() && self.checks.changed()
    }

    /// Checks that the server's state has every stage and nothing else was changed, and that the answer contains the value that the goal
    /// asks for.
    pub fn success(&self, answer: Option<&str>) -> bool {
        let answered = match &self.oracle.answer {
            None => true,
            Some(value) => answer.is_some_and(|answer| contains_words(answer, value)),
        };
        answered && self.truths().iter().all(|holds| *holds) && self.checks.guarded()
    }

    /// Returns the value that the answer must contain, if the goal asks for one.
    pub fn expected_answer(&self) -> Option<String> {
        self.oracle.answer.clone()
    }
}

/// Returns whether the words of `value` follow each other in `answer`; case and punctuation do not count.
fn contains_words(answer: &str, value: &str) -> bool {
    contains(&words(answer), &words(value))
}

#[cfg(test)]
mod tests {
    use super::contains_words;

    #[test]
    fn an_answer_contains_the_value_as_whole_words() {
        assert!(contains_words("The price is 12.", "12"));
        assert!(contains_words("ana diaz", "Ana Diaz"));
        assert!(!contains_words("It costs 125", "12"));
        assert!(!contains_words("", "12"));
    }
}
