//! How a template writes an instance down.

use std::sync::{Arc, Mutex};

use milepost_runtime::{Check, Planned};

use super::{Episode, Holds, Instance, ReferenceMilestone, Site, Truth};
use crate::oracle::{Oracle, Rule};
use crate::reads::{Fact, Reads};

/// An instance while a template writes it.
pub(crate) struct Draft<S> {
    world: S,
    goal: String,
    start: &'static str,
    plan: Vec<Planned>,
    rules: Vec<Rule>,
    milestones: Vec<ReferenceMilestone>,
    truths: Vec<Truth<S>>,
    needs: Vec<Holds<S>>,
    guards: Vec<Holds<S>>,
    facts: Vec<Fact>,
    answer: Option<String>,
    secrets: Vec<(String, String)>,
}

impl<S: Site> Draft<S> {
    /// A draft with the state at the start, the goal, and the first plan (without its closing `answer`).
    pub(crate) fn new(world: S, start: &'static str, goal: impl Into<String>, plan: Vec<Planned>) -> Self {
        Self {
            world,
            goal: goal.into(),
            start,
            plan: crate::plan_steps::finish(plan),
            rules: Vec::new(),
            milestones: Vec::new(),
            truths: Vec::new(),
            needs: Vec::new(),
            guards: Vec::new(),
            facts: Vec::new(),
            answer: None,
            secrets: Vec::new(),
        }
    }

    /// Adds a rule of revision.
    pub(crate) fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds a change that the goal asks for: how it is seen, and how the state has it.
    pub(crate) fn fact(self, text: impl Into<String>, check: Check, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.milestone(text.into(), check, Truth { holds: Box::new(holds), change: true })
    }

    /// Adds a stage on the way (a login, an open page) that must be reached, but is no change that the goal asks for.
    pub(crate) fn stage(self, text: impl Into<String>, check: Check, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.milestone(text.into(), check, Truth { holds: Box::new(holds), change: false })
    }

    fn milestone(mut self, text: String, check: Check, truth: Truth<S>) -> Self {
        self.milestones.push(ReferenceMilestone { text, check });
        self.truths.push(truth);
        self
    }

    /// Adds a fact that the goal needs and only the site can tell. Each way is a list of phrases; a page with all phrases of one tells it.
    pub(crate) fn reads(self, ways: impl Into<Fact>) -> Self {
        self.reads_all([ways.into()])
    }

    /// Adds several such facts, or none.
    pub(crate) fn reads_all(mut self, facts: impl IntoIterator<Item = Fact>) -> Self {
        self.facts.extend(facts);
        self
    }

    /// Adds a change that the goal asks for and that is no milestone of its own.
    pub(crate) fn need(mut self, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.needs.push(Box::new(holds));
        self
    }

    /// Adds a condition on the state at the end that no page shows (nothing else was changed).
    pub(crate) fn guard(mut self, holds: impl Fn(&S) -> bool + Send + Sync + 'static) -> Self {
        self.guards.push(Box::new(holds));
        self
    }

    /// The value that the answer must contain.
    pub(crate) fn answer(mut self, value: impl Into<String>) -> Self {
        self.answer = Some(value.into());
        self
    }

    /// A secret that the task may type.
    pub(crate) fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push((name.into(), value.into()));
        self
    }

    /// The finished instance.
    pub(crate) fn finish(self) -> Instance {
        Instance {
            origin: None,
            reads: Arc::new(Reads::new(self.facts)),
            goal: self.goal,
            start: self.start,
            secrets: self.secrets,
            milestones: self.milestones,
            oracle: Oracle { plan: self.plan, rules: self.rules, answer: self.answer },
            episode: Box::new(Episode {
                state: Arc::new(Mutex::new(self.world)),
                truths: self.truths,
                needs: self.needs,
                guards: self.guards,
            }),
        }
    }
}
