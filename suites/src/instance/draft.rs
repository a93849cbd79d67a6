//! The builder with which a template writes an instance.

use std::sync::{Arc, Mutex};

use milepost_runtime::{Check, Planned};

use super::{CheckedState, Condition, Instance, ReferenceMilestone, Truth};
use crate::facts::{Fact, FactLog};
use crate::oracle::{Oracle, RevisionRule};
use crate::plan_steps::with_answer_step;
use crate::site::Site;

/// An instance while a template writes it.
pub(crate) struct Draft<S> {
    state: S,
    goal: String,
    start: &'static str,
    plan: Vec<Planned>,
    rules: Vec<RevisionRule>,
    milestones: Vec<ReferenceMilestone>,
    truths: Vec<Truth<S>>,
    unseen_changes: Vec<Condition<S>>,
    guards: Vec<Condition<S>>,
    facts: Vec<Fact>,
    answer: Option<String>,
    secrets: Vec<(String, String)>,
}

impl<S: Site> Draft<S> {
    /// Starts a draft with the site's state at the start, the goal, and the first plan (without its closing `answer`).
    pub(crate) fn new(state: S, start: &'static str, goal: impl Into<String>, plan: Vec<Planned>) -> Self {
        Self {
            state,
            goal: goal.into(),
            start,
            plan: with_answer_step(plan),
            rules: Vec::new(),
            milestones: Vec::new(),
            truths: Vec::new(),
            unseen_changes: Vec::new(),
            guards: Vec::new(),
            facts: Vec::new(),
            answer: None,
            secrets: Vec::new(),
        }
    }

    /// Adds a rule of the oracle for revising its plan.
    pub(crate) fn rule(mut self, rule: RevisionRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds a milestone for a change that the goal asks for: `check` recognises it on a page, `holds` in the site's state.
    pub(crate) fn change(self, text: impl Into<String>, check: Check, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.milestone(text.into(), check, Truth { holds: Box::new(holds), is_change: true })
    }

    /// Adds a milestone for a stage on the way (a login, an open page) that must be reached, but is no change that the goal asks for.
    pub(crate) fn stage(self, text: impl Into<String>, check: Check, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.milestone(text.into(), check, Truth { holds: Box::new(holds), is_change: false })
    }

    fn milestone(mut self, text: String, check: Check, truth: Truth<S>) -> Self {
        self.milestones.push(ReferenceMilestone { text, check });
        self.truths.push(truth);
        self
    }

    /// Adds a fact that the goal needs and that only the site's pages contain. Each way is a list of phrases; a page with all phrases of
    /// one way states the fact.
    pub(crate) fn needs_fact(self, ways: impl Into<Fact>) -> Self {
        self.needs_facts([ways.into()])
    }

    /// Adds several such facts, or none.
    pub(crate) fn needs_facts(mut self, facts: impl IntoIterator<Item = Fact>) -> Self {
        self.facts.extend(facts);
        self
    }

    /// Adds a change that the goal asks for and that has no milestone of its own.
    pub(crate) fn unseen_change(mut self, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.unseen_changes.push(Box::new(holds));
        self
    }

    /// Adds a condition on the final state that no page shows (nothing else was changed).
    pub(crate) fn guard(mut self, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.guards.push(Box::new(holds));
        self
    }

    /// Sets the value that the answer must contain.
    pub(crate) fn answer(mut self, value: impl Into<String>) -> Self {
        self.answer = Some(value.into());
        self
    }

    /// Adds a secret that the task may type.
    pub(crate) fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push((name.into(), value.into()));
        self
    }

    /// Returns the finished instance.
    pub(crate) fn finish(self) -> Instance {
        Instance {
            origin: None,
            facts: Arc::new(FactLog::new(self.facts)),
            goal: self.goal,
            start: self.start,
            secrets: self.secrets,
            milestones: self.milestones,
            oracle: Oracle { plan: self.plan, rules: self.rules, answer: self.answer },
            checks: Box::new(CheckedState {
                state: Arc::new(Mutex::new(self.state)),
                truths: self.truths,
                unseen_changes: self.unseen_changes,
                guards: self.guards,
            }),
        }
    }
}
