//! Plays many suite episodes at once, in several environments with one model.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use milepost_learners::rewards::ended_externally;
use milepost_runtime::{EpisodeStore, Limits, Policy, Stop};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::experts::GivenPlan;
use crate::host::{Assignment, EnvironmentKind, Judging, LoadedModel, PlayRequest, Played, PolicySampling, TaskSuite};

/// The number of episodes after which a browser is replaced, since the memory of long sessions grows.
const EPISODES_PER_BROWSER: usize = 50;

/// The result of an episode; everything else about it is in the store.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The episode's id.
    pub id: String,
    /// Whether the checker found the task solved.
    pub solved: bool,
    /// Whether all needed facts were read and all needed changes were made; `None` if that is unknown.
    pub complete: Option<bool>,
    /// The number of actions.
    pub actions: usize,
    /// Whether the environment or a person ended the episode, so that its result does not depend on the policy.
    pub ended_externally: bool,
}

/// A callback for each episode that has ended: its index in the list of assignments, and the episode.
pub type OnEnd<'a> = &'a (dyn Fn(usize, &Played) -> Result<()> + Sync);

/// Plays assignments with one model in several environments at once.
pub struct ParallelPlayer<'a> {
    /// The suite.
    pub suite: &'a dyn TaskSuite,
    /// The model that acts.
    pub model: &'a dyn LoadedModel,
    /// How the model's policy samples.
    pub sampling: PolicySampling,
    /// The limits of an episode.
    pub limits: Limits,
    /// The store that episodes are written to.
    pub store: &'a dyn EpisodeStore,
    /// Where episodes run.
    pub environment: EnvironmentKind,
    /// Whether the first plan comes from the expert instead of the model.
    pub given_plans: bool,
    /// The number of episodes at once.
    pub workers: usize,
    /// The token that cancels the episodes.
    pub cancel: CancellationToken,
}

impl ParallelPlayer<'_> {
    /// Plays all assignments. The result is in their order, with `None` for assignments that were not played because of a cancellation.
    ///
    /// # Errors
    /// An episode could not be played or written.
    pub async fn play(&self, assignments: &[Assignment], on_end: OnEnd<'_>) -> Result<Vec<Option<Ended>>> {
        let (next, ended) = (AtomicUsize::new(0), Mutex::new(vec![None; assignments.len()]));
        let workers = self.workers.clamp(1, assignments.len().max(1));
        let (bar, solved) = (crate::progress::episodes(assignments.len() as u64), AtomicUsize::new(0));
        let on_end = |index: usize, played: &Played| {
            let solved = solved.fetch_add(usize::from(played.solved), Ordering::Relaxed) + usize::from(played.solved);
            bar.set_message(format!("{solved} solved"));
            bar.inc(1);
            on_end(index, played)
        };
        let done = try_join_all((0..workers).map(|_| self.worker(assignments, &next, &ended, &on_end))).await;
        bar.finish_and_clear();
        done?;
        Ok(ended.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn worker(
        &self,
        assignments: &[Assignment],
        next: &AtomicUsize,
        ended: &Mutex<Vec<Option<Ended>>>,
        on_end: OnEnd<'_>,
    ) -> Result<()> {
        let policy = self.model.policy(self.sampling);
        let (mut session, mut played) = (self.suite.open(self.environment).await?, 0);
        while !self.cancel.is_cancelled() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(assignment) = assignments.get(index) else { break };
            if played == EPISODES_PER_BROWSER {
                session.close().await?;
                (session, played) = (self.suite.open(self.environment).await?, 0);
            }
            played += 1;
            let expert = self.suite.oracle(assignment)?;
            let given = GivenPlan { expert: &*expert, model: &*policy };
            let request = PlayRequest {
                policy: Some(if self.given_plans { &given as &dyn Policy } else { &*policy }),
                verifier: Some(self.model.verifier()),
                store: self.store,
                generation: self.model.engine().generation().id(),
                limits: self.limits.clone(),
                judging: Judging::GroundTruth,
                cancel: self.cancel.clone(),
            };
            let done = session.play(assignment, request).await?;
            if done.episode.stop == Some(Stop::Cancelled) {
                break;
            }
            on_end(index, &done)?;
            let complete = done.verdicts.completeness.as_ref().and_then(|judged| judged.verdict.first().copied());
            let ended_externally = ended_externally(done.episode.stop.as_ref());
            let one = Ended { id: done.episode.id, solved: done.solved, complete, actions: done.episode.steps.len(), ended_externally };
            ended.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(one);
        }
        session.close().await
    }
}
