//! Many episodes at once: several places to act in, one engine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use futures_util::future::try_join_all;
use milepost_learners::rewards::disturbed;
use milepost_runtime::config::Screenshots;
use milepost_runtime::{EpisodeStore, NoListener, Policy, Secrets};
use milepost_suites::Template;
use tokio::sync::watch;

use crate::cli::PlaceArg;
use crate::commands::suite::episode::{Place, Played, Player, play};
use crate::config::Config;
use crate::improve::experts::Given;
use crate::wiring::{self, Mind};

/// Episodes after which a browser is replaced: memory of long sessions grows.
const EPISODES_A_BROWSER: usize = 50;

/// One episode to play.
#[derive(Clone, Copy, Debug)]
pub struct Assignment {
    /// What is asked.
    pub template: &'static Template,
    /// Seed of the task.
    pub seed: u64,
    /// Seed of the policy's sampling.
    pub sampling: u64,
}

impl Assignment {
    /// The task's name, for groups.
    pub fn task(&self) -> String {
        format!("{} {}", self.template.id, self.seed)
    }
}

/// How an episode ended; all else is in the store.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The episode's id.
    pub id: String,
    /// Whether the checker is satisfied.
    pub solved: bool,
    /// Whether all needed facts were read and all needed changes made; `None` where it cannot be told.
    pub complete: Option<bool>,
    /// Actions taken.
    pub actions: usize,
    /// Whether the environment ended it: it says nothing of the policy.
    pub disturbed: bool,
}

/// Looks at an episode that has ended: its index in the list of assignments, and all of it.
pub type Each<'a> = &'a (dyn Fn(usize, &Played) -> Result<()> + Sync);

/// Where and with whom episodes are played.
pub struct Field<'a> {
    /// The model.
    pub mind: &'a Mind,
    /// All settings; `policy` says which planner plays, at which temperature.
    pub config: &'a Config,
    /// Where episodes are written.
    pub store: &'a dyn EpisodeStore,
    /// Browser, or the plain reader.
    pub environment: PlaceArg,
    /// Whether the first plan is the expert's.
    pub given_plans: bool,
    /// Episodes at once.
    pub workers: usize,
    /// Cancels.
    pub cancel: watch::Receiver<bool>,
}

impl Field<'_> {
    /// Plays them all; the answer is in their order, `None` for those that a cancellation left out.
    ///
    /// # Errors
    /// The first episode that could not be played or written.
    pub async fn play(&self, assignments: &[Assignment], each: Each<'_>) -> Result<Vec<Option<Ended>>> {
        let (next, ended) = (AtomicUsize::new(0), Mutex::new(vec![None; assignments.len()]));
        let workers = self.workers.clamp(1, assignments.len().max(1));
        let (bar, solved) = (crate::progress::episodes(assignments.len() as u64), AtomicUsize::new(0));
        let each = |index: usize, played: &Played| {
            let solved = solved.fetch_add(usize::from(played.solved), Ordering::Relaxed) + usize::from(played.solved);
            bar.set_message(format!("{solved} solved"));
            bar.inc(1);
            each(index, played)
        };
        let done = try_join_all((0..workers).map(|_| self.worker(assignments, &next, &ended, &each))).await;
        bar.finish_and_clear();
        done?;
        Ok(ended.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn worker(
        &self,
        assignments: &[Assignment],
        next: &AtomicUsize,
        ended: &Mutex<Vec<Option<Ended>>>,
        each: Each<'_>,
    ) -> Result<()> {
        let policy = self.mind.policy(self.config.policy.planner, self.config);
        let (mut place, mut played) = (self.open().await?, 0);
        while !*self.cancel.borrow() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(assignment) = assignments.get(index) else { break };
            if played == EPISODES_A_BROWSER {
                close(place).await?;
                (place, played) = (self.open().await?, 0);
            }
            played += 1;
            let instance = assignment.template.instantiate(assignment.seed);
            let expert = instance.oracle();
            let given = Given { expert: &expert, model: &policy };
            let player = Player {
                policy: Some(if self.given_plans { &given } else { &policy as &dyn Policy }),
                verifier: Some(&self.mind.verifier),
                store: self.store,
                screenshots: Screenshots::Off,
                generation: self.mind.engine.generation().id(),
                cancel: self.cancel.clone(),
            };
            let done = play(&instance, assignment.sampling, &mut place, &player, self.config, &mut NoListener).await?;
            if done.episode.stop == Some(milepost_runtime::Stop::Cancelled) {
                break;
            }
            each(index, &done)?;
            let complete = done.verdicts.completeness.as_ref().and_then(|judged| judged.verdict.first().copied());
            let disturbed = disturbed(done.episode.stop.as_ref());
            let one = Ended { id: done.episode.id, solved: done.solved, complete, actions: done.episode.steps.len(), disturbed };
            if let Ok(mut ended) = ended.lock() {
                ended[index] = Some(one);
            }
        }
        close(place).await
    }

    async fn open(&self) -> Result<Place> {
        Ok(match self.environment {
            PlaceArg::Browser => Place::Browser(Box::new(wiring::browser(self.config, Secrets::default()).await?)),
            PlaceArg::Plain => Place::Plain,
        })
    }
}

async fn close(place: Place) -> Result<()> {
    if let Place::Browser(mut browser) = place {
        milepost_runtime::Environment::close(browser.as_mut()).await?;
    }
    Ok(())
}
