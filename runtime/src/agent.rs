//! The agent loop: look, check, decide, act, write down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use url::Url;

use crate::action::ToolForm;
use crate::check::Verdict;
use crate::config::Screenshots;
use crate::episode::{Episode, Outcome, Step, Stop, Timing};
use crate::error::{Error, Result};
use crate::listener::{Event, Listener};
use crate::observation::Observation;
use crate::overseer::{Clock, Overseer};
use crate::plan::Plan;
use crate::progress::{Pace, Progress};
use crate::store::EpisodeStore;
use crate::task::Task;
use crate::traits::{Environment, Policy, Tool, Verifier};

/// Everything one episode needs; `run` consumes it.
pub struct Agent<'a> {
    /// Decides.
    pub policy: &'a dyn Policy,
    /// Decides milestones that have no check.
    pub verifier: Option<&'a dyn Verifier>,
    /// The browser.
    pub environment: &'a mut dyn Environment,
    /// Tools beside it.
    pub tools: &'a [Arc<dyn Tool>],
    /// Where the episode is written, step by step.
    pub store: &'a dyn EpisodeStore,
    /// Who watches.
    pub listener: &'a mut dyn Listener,
    /// Who is asked, told and heard.
    pub overseer: Option<&'a dyn Overseer>,
    /// Becomes true when somebody cancels.
    pub cancel: watch::Receiver<bool>,
    /// Which steps leave a screenshot.
    pub screenshots: Screenshots,
    /// Id of the generation that serves the policy.
    pub generation: String,
    /// Seed of all sampling in the episode.
    pub seed: u64,
}

/// What changes from turn to turn.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) progress: Progress,
    pub(crate) stalled: bool,
    pub(crate) tool_result: Option<String>,
    pub(crate) restarted: bool,
    pub(crate) messages: Vec<String>,
    pub(crate) clock: Arc<Clock>,
    record_ms: f64,
}

impl Agent<'_> {
    /// Runs one task to its end. Only a store that cannot write is an error; all else ends the episode with its reason.
    pub async fn run(mut self, task: Task) -> Result<Episode> {
        let mut episode = Episode::begin(task, self.policy.name(), &self.generation);
        self.store.begin(&episode).await?;
        self.listener.event(Event::Began(&episode));
        let mut cancel = self.cancel.clone();
        let mut state = State::default();
        let (clock, limit) = (state.clock.clone(), Duration::from_secs(episode.task.limits.max_seconds));
        let stop = tokio::select! {
            biased;
            () = async { drop(cancel.wait_for(|cancelled| *cancelled).await) } => Stop::Cancelled,
            () = clock.spent(limit) => Stop::TimeLimit,
            stop = self.drive(&mut episode, &mut state) => match stop {
                Ok(stop) => stop,
                Err(error @ Error::Store { .. }) => return Err(error),
                Err(Error::Malformed { reason, call }) => {
                    self.store.call(&episode.id, None, &call).await?;
                    episode.calls.push(*call);
                    Stop::Malformed(reason)
                }
                Err(error @ Error::Parse { .. }) => Stop::Malformed(error.to_string()),
                Err(error) => Stop::Failed(self.environment.scrubbed(&error.to_string())),
            },
        };
        if state.plan.version > 0 {
            self.store.plan(&episode.id, &state.plan).await?;
            episode.plans.pop();
            episode.plans.push(state.plan);
        }
        if let (Stop::Answered, Some(check), Some(last)) = (&stop, &episode.task.check, &episode.last_observation) {
            episode.success = Some(check.evaluate(last) == Verdict::True);
        }
        episode.stop = Some(stop);
        episode.ended_at = Some(chrono::Utc::now());
        self.store.end(&episode).await?;
        self.listener.event(Event::Ended(&episode));
        Ok(episode)
    }

    async fn drive(&mut self, episode: &mut Episode, state: &mut State) -> Result<Stop> {
        self.environment.reset(&episode.task).await?;
        let forms: Vec<ToolForm> = self.tools.iter().map(|tool| tool.form()).collect();
        let observation = self.observe(episode, state).await?;
        let (steps, calls) = self.policy.plan(self.context(episode, state, &forms, &observation)).await?;
        for call in &calls {
            self.store.call(&episode.id, None, call).await?;
        }
        episode.calls.extend(calls);
        if !steps.is_empty() {
            state.plan = Plan::new(steps);
            self.replaced(episode, &state.plan).await?;
        }
        let mut first = Some(observation);
        for turn in 0..episode.task.limits.max_steps {
            if let Some(stop) = self.turn(turn, first.take(), episode, state, &forms).await? {
                return Ok(stop);
            }
        }
        Ok(Stop::StepLimit)
    }

    /// One turn. Returns why the episode should stop, if it should.
    async fn turn(
        &mut self,
        turn: u32,
        seen: Option<Observation>,
        episode: &mut Episode,
        state: &mut State,
        forms: &[ToolForm],
    ) -> Result<Option<Stop>> {
        let mut timing = Timing::default();
        let mut clock = Instant::now();
        let observation = match seen {
            Some(observation) => observation,
            None => self.observe(episode, state).await?,
        };
        timing.observe_ms = lap(&mut clock);
        self.listener.event(Event::Observed(&observation));
        let reached = self.verify(turn, episode, state, &observation).await?;
        timing.verify_ms = lap(&mut clock);
        let decision = self.policy.turn(self.context(episode, state, forms, &observation)).await?;
        timing.decide_ms = lap(&mut clock);

        let refused = self.revise(episode, state, &decision.revision).await?;
        (state.stalled, timing.record_ms) = (false, state.record_ms);
        let cursor = state.plan.cursor;
        let here = Url::parse(&observation.url).unwrap_or_else(|_| episode.task.start_url.clone());
        let (outcome, mut stop) = match (refused, episode.task.capability.refuses(&decision.action, &here)) {
            (Some(error), _) => (Outcome::failed(error.to_string()), None),
            (None, Some(reason)) => self.refused(turn, reason, &decision.action, &observation, episode, &state.clock).await?,
            (None, None) => self.act(&decision.action, &observation, &episode.task).await?,
        };
        let outcome = self.scrubbed(outcome);
        timing.act_ms = lap(&mut clock);
        state.tool_result = outcome.result.clone();
        if outcome.ok {
            state.plan.executed(turn);
        }
        if stop.is_none() {
            match state.progress.turn(&observation.fingerprint(), &decision.action, state.plan.version > 0, &episode.task.limits) {
                Pace::Moving => {}
                Pace::Stalled => state.stalled = true,
                Pace::Stuck(reason) => stop = Some(Stop::NoProgress(reason)),
            }
        }
        let screenshot = self.screenshot(&episode.id, turn, !reached.is_empty() || stop.is_some()).await?;
        let (plan_version, action) = (state.plan.version, decision.action);
        let step = Step {
            turn,
            observation,
            revision: decision.revision,
            plan_version,
            cursor,
            action,
            outcome,
            calls: decision.calls,
            reached,
            timing,
            screenshot,
        };
        clock = Instant::now();
        self.store.step(&episode.id, &step).await?;
        state.record_ms = lap(&mut clock);
        self.listener.event(Event::Step(&step));
        episode.steps.push(step);
        if stop == Some(Stop::Answered) {
            self.write_answer(episode, state, forms).await?;
        }
        Ok(stop)
    }
}

fn lap(clock: &mut Instant) -> f64 {
    let elapsed = clock.elapsed().as_secs_f64() * 1e3;
    *clock = Instant::now();
    elapsed
}
