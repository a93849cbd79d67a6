//! Plays oracle episodes and records each decision of the oracle.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::store::DiscardingStore;
use milepost_runtime::{Action, Answered, Call, Context, Decision, Limits, Observation, Plan, Planned, Policy, Revision, Step, Task};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::host::{Assignment, EnvironmentKind, Judging, PlayRequest, TaskSuite, Template};

/// One decision of an oracle, with the context that it was made in.
#[derive(Clone)]
pub(super) enum Decided {
    /// The first plan of the episode.
    Plan { observation: Observation, steps: Vec<Planned> },
    /// A turn: a revision of the plan, and an action.
    Turn { observation: Observation, plan: Plan, steps: Vec<Step>, revision: Revision, action: Action },
    /// The answer at the end of the episode.
    Answer { observation: Observation, steps: Vec<Step>, text: String },
}

/// The decisions of a solved oracle episode.
pub(super) struct Demonstration {
    /// The task.
    pub(super) task: Task,
    /// The tools beside the browser.
    pub(super) tools: Vec<ToolForm>,
    /// The decisions in their order.
    pub(super) decisions: Vec<Decided>,
}

/// The record of an oracle episode.
#[derive(Default)]
struct Recorded {
    task: Option<Task>,
    tools: Vec<ToolForm>,
    decisions: Vec<Decided>,
}

/// Wraps an oracle and records each of its decisions with its context.
struct DecisionRecorder<'a> {
    policy: &'a dyn Policy,
    recorded: Mutex<Recorded>,
}

impl DecisionRecorder<'_> {
    fn record(&self, context: Context<'_>, decided: Decided) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.task.is_none() {
            (recorded.task, recorded.tools) = (Some(context.task.clone()), context.tools.to_vec());
        }
        recorded.decisions.push(decided);
    }
}

#[async_trait]
impl Policy for DecisionRecorder<'_> {
    fn name(&self) -> &str {
        self.policy.name()
    }

    async fn plan(&self, context: Context<'_>) -> milepost_runtime::Result<(Vec<Planned>, Vec<Call>)> {
        let planned = self.policy.plan(context).await?;
        self.record(context, Decided::Plan { observation: context.observation.clone(), steps: planned.0.clone() });
        Ok(planned)
    }

    async fn turn(&self, context: Context<'_>) -> milepost_runtime::Result<Decision> {
        let decision = self.policy.turn(context).await?;
        self.record(
            context,
            Decided::Turn {
                observation: context.observation.clone(),
                plan: context.plan.clone(),
                steps: context.steps.to_vec(),
                revision: decision.revision.clone(),
                action: decision.action.clone(),
            },
        );
        Ok(decision)
    }

    async fn answer(&self, context: Context<'_>) -> milepost_runtime::Result<Answered> {
        let answered = self.policy.answer(context).await?;
        self.record(
            context,
            Decided::Answer { observation: context.observation.clone(), steps: context.steps.to_vec(), text: answered.text.clone() },
        );
        Ok(answered)
    }
}

/// Lets the oracle play a task in the plain environment. Returns `None` if it did not solve the task, because only successes are demonstrations.
pub(super) async fn demonstrate(suite: &dyn TaskSuite, template: &Template, seed: u64) -> Result<Option<Demonstration>> {
    let assignment = Assignment { template: template.clone(), seed, sampling: 0 };
    let oracle = suite.oracle(&assignment)?;
    let recorder = DecisionRecorder { policy: &*oracle, recorded: Mutex::default() };
    let mut session = suite.open(EnvironmentKind::Plain).await?;
    let request = PlayRequest {
        policy: Some(&recorder),
        verifier: None,
        store: &DiscardingStore,
        generation: recorder.name().to_owned(),
        limits: Limits::default(),
        judging: Judging::Outcome,
        cancel: CancellationToken::new(),
    };
    let solved = session.play(&assignment, request).await?.solved;
    session.close().await?;
    let Recorded { task, tools, decisions } = recorder.recorded.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(task.filter(|_| solved).map(|task| Demonstration { task, tools, decisions }))
}
