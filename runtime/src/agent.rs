//! The agent loop: observe, verify milestones, decide, act, record.

mod clock;
mod phases;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::state::RunState;
use crate::action::ToolForm;
use crate::config::Screenshots;
use crate::episode::{Episode, Outcome, Step, Stop, Timing};
use crate::error::{Error, Result};
use crate::listener::{Event, Listener};
use crate::observation::Observation;
use crate::overseer::Overseer;
use crate::plan::Plan;
use crate::progress::ProgressStatus;
use crate::store::EpisodeStore;
use crate::task::Task;
use crate::traits::{Environment, Policy, Tool, Verifier};

/// Everything that one episode needs; [`run`](Self::run) consumes it.
pub struct Agent<'a> {
    /// Decides what to do.
    pub policy: &'a dyn Policy,
    /// Decides milestones that have no check.
    pub verifier: Option<&'a dyn Verifier>,
    /// The browser.
    pub environment: &'a mut dyn Environment,
    /// The tools beside the browser.
    pub tools: &'a [Arc<dyn Tool>],
    /// The store to which the episode is written, step by step.
    pub store: &'a dyn EpisodeStore,
    /// Receives the events of the run.
    pub listener: &'a mut dyn Listener,
    /// Decides about refused actions, is informed of side effects, and sends messages.
    pub overseer: Option<&'a dyn Overseer>,
    /// Cancels the run.
    pub cancel: CancellationToken,
    /// Which steps get a screenshot.
    pub screenshots: Screenshots,
    /// Id of the generation that serves the policy.
    pub generation: String,
    /// Seed of all sampling in the episode.
    pub seed: u64,
}

impl Agent<'_> {
    /// Runs one task to its end.
    ///
    /// # Errors
    /// The store cannot be written. Any other failure ends the episode, with its reason.
    pub async fn run(mut self, task: Task) -> Result<Episode> {
        let mut episode = Episode::begin(task, self.policy.name(), &self.generation);
        self.store.begin(&episode).await?;
        self.listener.event(Event::Began(&episode));
        let cancel = self.cancel.clone();
        let mut state = RunState::default();
        let (clock, limit) = (state.clock.clone(), Duration::from_secs(episode.task.limits.max_seconds));
        let stop = tokio::select! {
            biased;
            () = cancel.cancelled() => Stop::Cancelled,
            () = clock.reached(limit) => Stop::TimeLimit,
            stop = self.run_turns(&mut episode, &mut state) => match stop {
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
            episode.success = check.evaluate(last).decided();
        }
        episode.stop = Some(stop);
        episode.ended_at = Some(chrono::Utc::now());
        self.store.end(&episode).await?;
        self.listener.event(Event::Ended(&episode));
        Ok(episode)
    }

    /// Plans, then takes turns until the episode should stop.
    async fn run_turns(&mut self, episode: &mut Episode, state: &mut RunState) -> Result<Stop> {
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
            self.record_plan(episode, &state.plan).await?;
        }
        let mut first = Some(observation);
        for turn in 0..episode.task.limits.max_steps {
            if let Some(stop) = self.turn(turn, first.take(), episode, state, &forms).await? {
                return Ok(stop);
            }
        }
        Ok(Stop::StepLimit)
    }

    /// Takes one turn, on this observation or on a new one. Returns why the episode should stop, if it should.
    async fn turn(
        &mut self,
        turn: u32,
        observation: Option<Observation>,
        episode: &mut Episode,
        state: &mut RunState,
        forms: &[ToolForm],
    ) -> Result<Option<Stop>> {
        let mut timing = Timing::default();
        let mut phase_start = Instant::now();
        let observation = match observation {
            Some(observation) => observation,
            None => self.observe(episode, state).await?,
        };
        timing.observe_ms = lap(&mut phase_start);
        self.listener.event(Event::Observed(&observation));
        let reached = self.verify_milestones(turn, episode, state, &observation).await?;
        timing.verify_ms = lap(&mut phase_start);
        let decision = self.policy.turn(self.context(episode, state, forms, &observation)).await?;
        timing.decide_ms = lap(&mut phase_start);

        let refused = self.revise(episode, state, &decision.revision).await?;
        (state.stalled, timing.record_ms) = (false, state.record_ms);
        let (cursor, plan_version, action) = (state.plan.cursor, state.plan.version, decision.action);
        let (outcome, mut stop) = match refused {
            Some(error) => (Outcome::failed(error.to_string()), None),
            None => self.attempt(turn, &action, &observation, episode, &state.clock).await?,
        };
        let outcome = self.scrubbed(outcome);
        timing.act_ms = lap(&mut phase_start);
        state.tool_result = outcome.result.clone();
        if outcome.ok {
            state.plan.mark_executed(turn);
        }
        if stop.is_none() {
            match state.progress.record_turn(&observation.fingerprint(), &action, plan_version > 0, &episode.task.limits) {
                ProgressStatus::Progressing => {}
                ProgressStatus::Stalled => state.stalled = true,
                ProgressStatus::Stuck(reason) => stop = Some(Stop::NoProgress(reason)),
            }
        }
        let screenshot = self.screenshot(&episode.id, turn, !reached.is_empty() || stop.is_some()).await?;
        let (revision, calls) = (decision.revision, decision.calls);
        let step = Step { turn, observation, revision, plan_version, cursor, action, outcome, calls, reached, timing, screenshot };
        phase_start = Instant::now();
        self.store.step(&episode.id, &step).await?;
        state.record_ms = lap(&mut phase_start);
        self.listener.event(Event::Step(&step));
        episode.steps.push(step);
        if stop == Some(Stop::Answered) {
            self.write_answer(episode, state, forms).await?;
        }
        Ok(stop)
    }
}

/// Returns the milliseconds since `start`, and sets `start` to now.
fn lap(start: &mut Instant) -> f64 {
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    *start = Instant::now();
    elapsed
}
