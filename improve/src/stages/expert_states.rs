//! Collecting for `single_turn`: an expert plays training tasks, and the model is asked for its decision in each of the expert's states.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};
use milepost_runtime::store::{DiscardingStore, TrainingQuery};
use milepost_runtime::{Episode, EpisodeStore, Policy, Stop};
use milepost_text::{GrammarCompiler, TextModel};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{CALLS, SuiteStages};
use crate::config::Expert;
use crate::error::{Error, Result};
use crate::experts::{self, ExpertWithModel, Purpose, Samples};
use crate::host::{Assignment, EnvironmentKind, Judging, LoadedModel, Planning, PlayRequest};
use crate::recorded::{self, Recorded};
use crate::tasks::{Counts, training};
use crate::update::RewardedCall;

/// An expert's trajectory for a task.
enum Trajectory {
    /// The suite's oracle plays the task in the plain environment.
    Oracle(Assignment),
    /// A recorded success, with the seed of the model's sampling.
    Recorded(Box<Episode>, u64),
}

/// The model, and the settings with which it is queried in an expert's states.
struct ModelQuery<'a> {
    model: &'a dyn Policy,
    text: &'a TextModel,
    compiler: &'a GrammarCompiler,
    purpose: Purpose,
    matching: milepost_learners::rewards::Match,
}

impl SuiteStages<'_> {
    /// Asks the model in the states of an expert on training tasks; returns the number of its calls, and the number of those that match the
    /// expert's.
    pub(super) async fn collect_expert_states(&self, actor: &dyn LoadedModel, round: usize, directory: &Path) -> Result<(usize, usize)> {
        // The file is written in one piece at the end, so one that exists is complete.
        if let Some(counts) = experts::counts(&directory.join(CALLS))? {
            return Ok(counts);
        }
        let config = self.config();
        let samples = Samples { group: config.group, in_doubt: config.in_doubt, least_doubt: config.update.least_doubt };
        let purpose = if round <= config.imitation.rounds { Purpose::Imitate } else { Purpose::Match(samples) };
        let temperature = if purpose == Purpose::Imitate { 0.0 } else { config.temperature };
        let seed = config.seed.wrapping_mul(1_000_003).wrapping_add(round as u64);
        let trajectories: Vec<Trajectory> = match self.own_tasks || config.expert == Expert::Recorded {
            true => self.recorded_trajectories(seed).await?,
            // An expert's trajectory counts as one episode, so that recipes are compared at equal cost of collecting.
            false => training(&self.templates, &Counts::new(), config.tasks, 1, seed).into_iter().map(Trajectory::Oracle).collect(),
        };
        let calls = self.ask_in_states(actor, trajectories, purpose, temperature).await?;
        experts::write(&directory.join(CALLS), &calls)?;
        Ok(experts::count(&calls))
    }

    /// Draws the round's share of the recorded successes that are expert trajectories.
    async fn recorded_trajectories(&self, seed: u64) -> Result<Vec<Trajectory>> {
        let (mut successes, planned) = (Vec::new(), self.host.prompts.planning() == Planning::Planned);
        let query = TrainingQuery { from_suite: Some(!self.own_tasks), ..TrainingQuery::default() };
        for id in self.store.trainable(&query).await? {
            let episode = self.store.load(&id).await?;
            let is_played = |id: &str| self.templates.iter().any(|template| template.id == id);
            let is_expert = |episode: &Episode| {
                (episode.success, &episode.stop) == (Some(true), &Some(Stop::Answered))
                    && (!planned || !episode.plans.is_empty())
                    && episode.task.source.as_ref().is_none_or(|source| is_played(&source.template))
            };
            successes.extend(episode.filter(is_expert));
        }
        let found = successes.len();
        let mut shortest = recorded::shortest(successes);
        if shortest.is_empty() {
            let problem = "single_turn has no expert: no task has a verified success that alone is shortest";
            return Err(Error::bad_input(format!("{problem} ({found} successes in {})", self.store.directory().display())));
        }
        let mut rng = StdRng::seed_from_u64(seed);
        shortest.shuffle(&mut rng);
        shortest.truncate(self.config().tasks);
        Ok(shortest.into_iter().map(|episode| Trajectory::Recorded(Box::new(episode), rng.random())).collect())
    }

    /// Asks the model in service, greedily, in each of the oracle's states; returns the number of states in which it takes the oracle's action, and
    /// the number of states. Plans are not counted.
    ///
    /// # Errors
    /// The engine or the plain environment fails.
    pub async fn match_oracle(&self, tasks: Vec<Assignment>) -> Result<(usize, usize)> {
        let once = Samples { group: 1, in_doubt: 0, least_doubt: 0.0 };
        let trajectories = tasks.into_iter().map(Trajectory::Oracle).collect();
        let calls = self.ask_in_states(&*self.model, trajectories, Purpose::Match(once), 0.0).await?;
        let (all, right) = experts::count(&calls);
        Ok((right, all))
    }

    /// Collects the model's calls in the states of these trajectories.
    async fn ask_in_states(
        &self,
        actor: &dyn LoadedModel,
        trajectories: Vec<Trajectory>,
        purpose: Purpose,
        temperature: f32,
    ) -> Result<Vec<RewardedCall>> {
        if self.host.prompts.asks_twice() {
            return Err(Error::bad_input(
                "policy.revise: separate asks twice a turn, and an expert's state has one call; use `joint` where its states are asked in",
            ));
        }
        let (text, model) = (TextModel::load(self.settings.weights()?)?, actor.policy(self.sampling(temperature)));
        let compiler = GrammarCompiler::new(&text)?;
        let matching = self.phase(1)?.rewards.matching;
        let query = ModelQuery { model: &*model, text: &text, compiler: &compiler, purpose, matching };
        let bar = crate::progress::episodes(trajectories.len() as u64);
        bar.set_message("expert's tasks");
        let (query, bar) = (&query, &bar);
        let ask = |trajectory: Trajectory| async move {
            let (solved, calls) = match trajectory {
                Trajectory::Oracle(assignment) => self.ask_oracle(query, &assignment).await?,
                Trajectory::Recorded(episode, seed) => self.ask_recorded(query, &episode, seed).await?,
            };
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            bar.inc(1);
            // A trajectory that does not solve its task is not an expert's.
            Ok(if solved { calls } else { Vec::new() })
        };
        // The result is in the tasks' order, however many are played at once.
        let played: Vec<Vec<RewardedCall>> =
            futures_util::stream::iter(trajectories).map(ask).buffered(self.config().workers.max(1)).try_collect().await?;
        bar.finish_and_clear();
        Ok(played.into_iter().flatten().collect())
    }

    async fn ask_oracle(&self, query: &ModelQuery<'_>, assignment: &Assignment) -> Result<(bool, Vec<RewardedCall>)> {
        let oracle = self.host.suite.oracle(assignment)?;
        let expert = self.expert_with_model(query, &*oracle, assignment.task());
        let mut session = self.host.suite.open(EnvironmentKind::Plain).await?;
        let request = PlayRequest {
            policy: Some(&expert),
            verifier: None,
            store: &DiscardingStore,
            generation: "oracle".into(),
            limits: self.settings.limits.clone(),
            judging: Judging::Outcome,
            cancel: self.cancel.clone(),
        };
        let played = session.play(assignment, request).await?;
        session.close().await?;
        if let Some(Stop::Failed(reason)) = played.episode.stop {
            return Err(milepost_runtime::Error::Engine(reason).into());
        }
        let mut calls = expert.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        let source = self.host.suite.source(assignment)?;
        calls.iter_mut().for_each(|call| call.source = Some(source.clone()));
        Ok((played.solved, calls))
    }

    async fn ask_recorded(&self, query: &ModelQuery<'_>, episode: &Episode, seed: u64) -> Result<(bool, Vec<RewardedCall>)> {
        let recorded = Recorded(episode);
        let expert = self.expert_with_model(query, &recorded, recorded::task_name(&episode.task));
        let again = recorded::replay(episode, &expert, &self.host.tools, seed, self.cancel.clone()).await?;
        if !again && !self.cancel.is_cancelled() {
            tracing::warn!(episode = episode.id, "what was recorded goes another way now; it is left out");
        }
        let mut calls = expert.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        calls.iter_mut().for_each(|call| call.episode = Some(episode.id.clone()));
        Ok((again, calls))
    }

    /// Wraps an expert so that the model is asked in each of its states.
    fn expert_with_model<'e>(&'e self, query: &'e ModelQuery<'_>, expert: &'e dyn Policy, task: String) -> ExpertWithModel<'e> {
        let ModelQuery { model, text, compiler, purpose, matching } = *query;
        ExpertWithModel { expert, model, text, compiler, prompts: &*self.host.prompts, purpose, task, matching, calls: Mutex::default() }
    }
}
