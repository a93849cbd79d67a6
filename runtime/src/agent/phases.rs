//! The phases of a turn: observing, verifying milestones, revising the plan, acting, and recording the outcome.

use url::Url;

use super::Agent;
use super::clock::RunClock;
use super::state::RunState;
use crate::action::{Action, SideEffect, ToolForm};
use crate::check::Verdict;
use crate::config::Screenshots;
use crate::episode::{Episode, Outcome, Stop};
use crate::error::{Error, Result};
use crate::listener::Event;
use crate::observation::Observation;
use crate::overseer::{ApprovalDecision, Overseer, RefusedAction};
use crate::plan::{Plan, Revision, VerdictBy};
use crate::task::Task;
use crate::traits::Context;

impl Agent<'_> {
    /// Observes the page and keeps the observation as the episode's last one. A browser that died is restarted once, on the page where it
    /// was.
    pub(super) async fn observe(&mut self, episode: &mut Episode, state: &mut RunState) -> Result<Observation> {
        let mut observation = match self.environment.observe().await {
            Err(Error::EnvironmentGone(reason)) if !state.restarted => {
                tracing::warn!(reason = self.environment.scrubbed(&reason), "starting the browser once more");
                state.restarted = true;
                self.environment.reset(&episode.task).await?;
                if let Some(last) = &episode.last_observation {
                    self.environment.act(&Action::Goto(last.url.clone())).await?;
                }
                self.environment.observe().await?
            }
            observed => observed?,
        };
        observation.tool_result = state.tool_result.take();
        state.messages.extend(self.overseer.map(Overseer::take_messages).unwrap_or_default());
        episode.last_observation = Some(observation.clone());
        Ok(observation)
    }

    /// Verifies milestones from the cursor on; each milestone that holds moves the cursor. Returns the indices of the plan steps whose
    /// milestones were reached.
    pub(super) async fn verify_milestones(
        &mut self,
        turn: u32,
        episode: &mut Episode,
        state: &mut RunState,
        observation: &Observation,
    ) -> Result<Vec<usize>> {
        let mut reached = Vec::new();
        while let Some(step) = state.plan.current() {
            let (verdict, by) = match (&step.milestone.check, self.verifier) {
                (Some(check), _) => (check.evaluate(observation), VerdictBy::Check),
                (None, Some(verifier)) if step.executed_at.is_some() => match verifier.verify(&step.milestone, observation).await {
                    Ok((verdict, calls)) => {
                        for call in &calls {
                            self.store.call(&episode.id, Some(turn), call).await?;
                        }
                        episode.calls.extend(calls);
                        (verdict, VerdictBy::Verifier)
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the verifier failed; the milestone stays undecided");
                        (Verdict::Unknown, VerdictBy::Verifier)
                    }
                },
                (None, _) => break,
            };
            let index = state.plan.cursor;
            if !state.plan.record_verdict(verdict, by, turn) {
                break;
            }
            reached.push(index);
            state.progress.milestone_reached();
            self.listener.event(Event::Milestone(&state.plan, index));
        }
        Ok(reached)
    }

    /// Carries out an action that the capability allows, and asks a person about one that it refuses.
    pub(super) async fn attempt(
        &mut self,
        turn: u32,
        action: &Action,
        observation: &Observation,
        episode: &mut Episode,
        clock: &RunClock,
    ) -> Result<(Outcome, Option<Stop>)> {
        let here = Url::parse(&observation.url);
        let base = here.as_ref().unwrap_or(&episode.task.start_url);
        let Some(reason) = episode.task.capability.refuses(action, base) else {
            return self.act(action, observation, &episode.task).await;
        };
        let decision = match self.overseer {
            None => ApprovalDecision::Undecided,
            Some(overseer) => {
                let screenshot = self.take_screenshot(&episode.id, turn).await?;
                let (url, screenshot) = (observation.url.as_str(), screenshot.as_deref());
                clock.paused_during(overseer.decide(RefusedAction { action, reason: &reason, url, screenshot })).await?
            }
        };
        match decision {
            ApprovalDecision::Undecided => Ok((Outcome::failed(reason.clone()), Some(Stop::NeedsApproval(reason)))),
            ApprovalDecision::Denied(note) => {
                let said = note.map(|note| format!(": {note}")).unwrap_or_default();
                Ok((Outcome::failed(format!("a person refused it{said} ({reason})")), None))
            }
            ApprovalDecision::Approved => {
                if let Ok(here) = here {
                    episode.task.capability.widen(action, &here);
                }
                self.act(action, observation, &episode.task).await
            }
        }
    }

    /// Carries out an action: ends the episode, calls a tool, or lets the browser act.
    async fn act(&mut self, action: &Action, observation: &Observation, task: &Task) -> Result<(Outcome, Option<Stop>)> {
        if let Some(overseer) = self.overseer.filter(|_| self.has_side_effect(action)) {
            overseer.before_side_effect(action).await?;
        }
        Ok(match action {
            Action::Answer { .. } => (Outcome::done(), Some(Stop::Answered)),
            Action::Stop(reason) => (Outcome::done(), Some(Stop::GaveUp(reason.clone()))),
            Action::Call { tool, arguments } => match self.tools.iter().find(|known| known.form().name == *tool) {
                None => (Outcome::failed(format!("invalid: there is no tool {tool:?}")), None),
                Some(known) => match known.call(arguments, task).await {
                    Ok(result) => (Outcome { result: Some(result), ..Outcome::done() }, None),
                    Err(error) => (Outcome { result: Some(format!("error: {error}")), ..Outcome::failed(error.to_string()) }, None),
                },
            },
            action => match action.invalid_on(observation) {
                Some(reason) => (Outcome::failed(format!("invalid: {reason}")), None),
                None => match self.environment.act(action).await {
                    Err(Error::EnvironmentGone(reason)) => (Outcome::failed(format!("the browser session is gone: {reason}")), None),
                    outcome => (outcome?, None),
                },
            },
        })
    }

    /// Whether an action may change something outside the browser.
    fn has_side_effect(&self, action: &Action) -> bool {
        match action.effect() {
            SideEffect::None => false,
            SideEffect::Possible => true,
            SideEffect::OfTool => self.tools.iter().any(|known| Some(known.form().name.as_str()) == action.tool() && known.changes()),
        }
    }

    /// Replaces the values of secrets in an outcome by their placeholders: tools, pages and drivers may repeat the text that was typed.
    pub(super) fn scrubbed(&self, outcome: Outcome) -> Outcome {
        let clean = |text: String| self.environment.scrubbed(&text);
        Outcome { ok: outcome.ok, error: outcome.error.map(clean), result: outcome.result.map(clean) }
    }

    /// Lets the policy write the answer from the episode, unless the executor wrote it.
    pub(super) async fn write_answer(&mut self, episode: &mut Episode, state: &RunState, forms: &[ToolForm]) -> Result<()> {
        let Some(step) = episode.steps.last() else { return Ok(()) };
        episode.answer = match &step.action {
            Action::Answer { text: Some(text) } => Some(text.clone()),
            _ => {
                let answered = self.policy.answer(self.context(episode, state, forms, &step.observation)).await?;
                for call in &answered.calls {
                    self.store.call(&episode.id, None, call).await?;
                }
                episode.calls.extend(answered.calls);
                Some(answered.text)
            }
        };
        Ok(())
    }

    /// Takes the screenshot of a step, if the settings ask for one.
    pub(super) async fn screenshot(&mut self, episode: &str, turn: u32, notable: bool) -> Result<Option<String>> {
        let wanted = match self.screenshots {
            Screenshots::Off => false,
            Screenshots::All => true,
            Screenshots::Milestones => notable,
        };
        if wanted { self.take_screenshot(episode, turn).await } else { Ok(None) }
    }

    /// Takes a screenshot; `None` if the browser cannot draw one, which does not end the episode.
    async fn take_screenshot(&mut self, episode: &str, turn: u32) -> Result<Option<String>> {
        match self.environment.screenshot().await {
            Ok(Some(png)) => Ok(Some(self.store.screenshot(episode, turn, &png).await?)),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Applies a revision. Returns the error if the plan refuses it. The replaced version is recorded with its final state.
    pub(super) async fn revise(&mut self, episode: &mut Episode, state: &mut RunState, revision: &Revision) -> Result<Option<Error>> {
        if *revision == Revision::Keep {
            return Ok(None);
        }
        let before = state.plan.clone();
        if let Err(error) = state.plan.revise(revision.clone()) {
            return Ok(Some(error));
        }
        if let Some(last) = episode.plans.last_mut() {
            self.store.plan(&episode.id, &before).await?;
            *last = before;
        }
        self.record_plan(episode, &state.plan).await?;
        Ok(None)
    }

    /// Records a new plan version and notifies the listener.
    pub(super) async fn record_plan(&mut self, episode: &mut Episode, plan: &Plan) -> Result<()> {
        self.store.plan(&episode.id, plan).await?;
        self.listener.event(Event::Plan(plan));
        episode.plans.push(plan.clone());
        Ok(())
    }

    /// Returns the information that the policy may use for a decision.
    pub(super) fn context<'c>(
        &self,
        episode: &'c Episode,
        state: &'c RunState,
        tools: &'c [ToolForm],
        observation: &'c Observation,
    ) -> Context<'c> {
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(episode.steps.len() as u64);
        Context {
            task: &episode.task,
            plan: &state.plan,
            steps: &episode.steps,
            observation,
            tools,
            stalled: state.stalled,
            messages: &state.messages,
            seed,
        }
    }
}
