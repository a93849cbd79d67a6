//! The oracle: a policy that knows the instance's plan and when the plan must be revised. It runs through the same loop as a model.

use async_trait::async_trait;
use milepost_runtime::text::quote;
use milepost_runtime::{Answered, Call, Check, Context, Decision, Observation, Planned, Policy, Result, Revision, Verdict};

use crate::plan_steps::{Intent, clickable, url_contains};

/// The position of the plan's cursor at which a rule applies.
#[derive(Clone, Debug)]
pub(crate) enum CursorAt {
    /// At the step with this text.
    Step(String),
    /// After the last step.
    End,
}

/// Where the old plan continues after the new steps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resume {
    /// At the current step: the new steps are put before it.
    Current,
    /// At the step after the current one.
    Next,
    /// Nowhere: the new steps replace all that is left.
    Nowhere,
}

/// When the plan must be revised, and how; an agent can derive this from goal, plan and page.
#[derive(Clone, Debug)]
pub(crate) struct RevisionRule {
    /// The required position of the cursor.
    pub(crate) cursor: CursorAt,
    /// The check that must hold on the page.
    pub(crate) when: Check,
    /// The new steps.
    pub(crate) steps: Vec<Planned>,
    /// Where the old plan continues after them.
    pub(crate) resume: Resume,
}

/// The policy that solves one instance.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub(crate) plan: Vec<Planned>,
    pub(crate) rules: Vec<RevisionRule>,
    pub(crate) answer: Option<String>,
}

impl Oracle {
    /// Returns the first plan, which an agent can write from the goal and the first page.
    pub fn first_plan(&self) -> &[Planned] {
        &self.plan
    }

    /// Returns the oracle's revision of its plan on this page.
    fn revision(&self, context: &Context<'_>) -> Revision {
        let current = context.plan.current().map(|step| step.text.as_str());
        let rule = self.rules.iter().find(|rule| {
            let here = match (&rule.cursor, current) {
                (CursorAt::Step(text), Some(current)) => text == current,
                (CursorAt::End, None) => true,
                _ => false,
            };
            here && rule.when.evaluate(context.observation) == Verdict::True
        });
        let cursor = context.plan.cursor;
        match rule {
            Some(rule) => {
                let resume = match rule.resume {
                    Resume::Current => Some(cursor + 1),
                    Resume::Next => Some(cursor + 2),
                    Resume::Nowhere => None,
                };
                Revision::Rewrite { steps: rule.steps.clone(), resume }
            }
            None => current
                .and_then(|current| next_page(current, context.observation))
                .map_or(Revision::Keep, |step| Revision::Rewrite { steps: vec![step], resume: Some(cursor + 1) }),
        }
    }
}

/// Returns the step to the next page of a list, if the step under the cursor clicks something that is not on this page.
fn next_page(current: &str, page: &Observation) -> Option<Planned> {
    let Ok(Intent::Click(label)) = Intent::parse(current) else { return None };
    if clickable(page, &label) || !clickable(page, "Next") {
        return None;
    }
    let number = page.url.split_once("page=").and_then(|(_, rest)| rest.split('&').next()?.parse::<u32>().ok()).unwrap_or(1);
    Some(Planned { text: format!("click {}", quote("Next")), check: Some(url_contains(format!("page={}", number + 1))) })
}

#[async_trait]
impl Policy for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    async fn plan(&self, _: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)> {
        Ok((self.plan.clone(), Vec::new()))
    }

    async fn turn(&self, context: Context<'_>) -> Result<Decision> {
        let revision = self.revision(&context);
        let text = match &revision {
            Revision::Rewrite { steps, .. } => steps.first().map(|step| step.text.as_str()),
            Revision::Keep => context.plan.current().map(|step| step.text.as_str()),
        };
        let before = context.steps.last().filter(|step| step.observation.path() == context.observation.path());
        let action = Intent::parse(text.unwrap_or("answer"))?.action(context.observation, before.map(|step| &step.action))?;
        Ok(Decision { revision, action, calls: Vec::new() })
    }

    async fn answer(&self, _: Context<'_>) -> Result<Answered> {
        Ok(Answered { text: self.answer.clone().unwrap_or_else(|| "done".into()), calls: Vec::new() })
    }
}
