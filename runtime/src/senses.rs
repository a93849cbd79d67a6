//! What a turn of the loop is made of: looking, checking milestones, acting, answering.

use url::Url;

use crate::action::{Action, ToolForm};
use crate::agent::{Agent, State};
use crate::check::Verdict;
use crate::config::Screenshots;
use crate::episode::{Episode, Outcome, Stop};
use crate::error::{Error, Result};
use crate::listener::Event;
use crate::observation::Observation;
use crate::overseer::{Clock, Overseer, Refusal, Ruling};
use crate::plan::{Plan, Revision, VerdictBy};
use crate::task::Task;
use crate::traits::Context;

impl Agent<'_> {
    /// Looks at the page, which is the episode's last one from then on; a browser that died is started once more where it was.
    pub(crate) async fn observe(&mut self, episode: &mut Episode, state: &mut State) -> Result<Observation> {
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
        state.messages.extend(self.overseer.map(Overseer::messages).unwrap_or_default());
        episode.last_observation = Some(observation.clone());
        Ok(observation)
    }

    /// Checks milestones from the cursor on; each true one moves it. Returns the plan steps reached.
    pub(crate) async fn verify(
        &mut self,
        turn: u32,
        episode: &mut Episode,
        state: &mut State,
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
            if !state.plan.settle(verdict, by, turn) {
                break;
            }
            reached.push(index);
            state.progress.milestone();
            self.listener.event(Event::Milestone(&state.plan, index));
        }
        Ok(reached)
    }

    /// An action outside the capability: a person decides, or the episode ends.
    pub(crate) async fn refused(
        &mut self,
        turn: u32,
        reason: String,
        action: &Action,
        observation: &Observation,
        episode: &mut Episode,
        clock: &Clock,
    ) -> Result<(Outcome, Option<Stop>)> {
        let ruling = match self.overseer {
            None => Ruling::Undecided,
            Some(overseer) => {
                let screenshot = self.draw(&episode.id, turn).await?;
                let (url, screenshot) = (observation.url.as_str(), screenshot.as_deref());
                clock.standing(overseer.rule(Refusal { action, reason: &reason, url, screenshot })).await?
            }
        };
        match ruling {
            Ruling::Undecided => Ok((Outcome::failed(reason.clone()), Some(Stop::NeedsApproval(reason)))),
            Ruling::Denied(note) => {
                let said = note.map(|note| format!(": {note}")).unwrap_or_default();
                Ok((Outcome::failed(format!("a person refused it{said} ({reason})")), None))
            }
            Ruling::Approved => {
                if let Ok(here) = Url::parse(&observation.url) {
                    episode.task.capability.widen(action, &here);
                }
                self.act(action, observation, &episode.task).await
            }
        }
    }

    /// Carries out an action: a tool's, the browser's, or one that ends the episode.
    pub(crate) async fn act(&mut self, action: &Action, observation: &Observation, task: &Task) -> Result<(Outcome, Option<Stop>)> {
        if let Some(overseer) = self.overseer.filter(|_| self.changes(action)) {
            overseer.acting(action).await?;
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

    /// What came of a turn, as it may be shown and written down: tools, pages and drivers echo what was typed.
    pub(crate) fn scrubbed(&self, outcome: Outcome) -> Outcome {
        let clean = |text: String| self.environment.scrubbed(&text);
        Outcome { ok: outcome.ok, error: outcome.error.map(clean), result: outcome.result.map(clean) }
    }

    /// Lets the policy write the answer from the episode, unless the executor wrote it.
    pub(crate) async fn write_answer(&mut self, episode: &mut Episode, state: &State, forms: &[ToolForm]) -> Result<()> {
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

    /// Takes a screenshot where one is wanted; a browser that cannot draw one does not stop the episode.
    pub(crate) async fn screenshot(&mut self, episode: &str, turn: u32, notable: bool) -> Result<Option<String>> {
        let wanted = match self.screenshots {
            Screenshots::Off => false,
            Screenshots::All => true,
            Screenshots::Milestones => notable,
        };
        if wanted { self.draw(episode, turn).await } else { Ok(None) }
    }

    async fn draw(&mut self, episode: &str, turn: u32) -> Result<Option<String>> {
        match self.environment.screenshot().await {
            Ok(Some(png)) => Ok(Some(self.store.screenshot(episode, turn, &png).await?)),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Whether an action may change something outside the browser. Going to an address counts as reading, as in HTTP (RFC 9110, 9.2.1).
    fn changes(&self, action: &Action) -> bool {
        match action {
            Action::Call { tool, .. } => self.tools.iter().any(|known| known.form().name == *tool && known.changes()),
            Action::Click(_) | Action::Type { .. } | Action::Select { .. } | Action::Press(_) => true,
            Action::Scroll(_) | Action::Goto(_) | Action::Back | Action::Wait | Action::Answer { .. } | Action::Stop(_) => false,
        }
    }

    /// Applies a revision and returns what the plan refuses. The version that it replaces is written down as it stood.
    pub(crate) async fn revise(&mut self, episode: &mut Episode, state: &mut State, revision: &Revision) -> Result<Option<Error>> {
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
        self.replaced(episode, &state.plan).await?;
        Ok(None)
    }

    /// Writes down and shows a plan version that takes the place of the one before.
    pub(crate) async fn replaced(&mut self, episode: &mut Episode, plan: &Plan) -> Result<()> {
        self.store.plan(&episode.id, plan).await?;
        self.listener.event(Event::Plan(plan));
        episode.plans.push(plan.clone());
        Ok(())
    }

    /// What the policy may look at now.
    pub(crate) fn context<'c>(
        &self,
        episode: &'c Episode,
        state: &'c State,
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
