//! Playing one suite task: the environment is prepared, the agent loop runs, the reference milestones are checked at every observation, and
//! the checker and the ground-truth judge give their verdicts.

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::config::Screenshots;
use milepost_runtime::store::DiscardingStore;
use milepost_runtime::{
    Agent, Environment, Episode, EpisodeStore, Event, Limits, Listener, MilestoneSource, MilestonesReached, NoListener, Policy, Reached,
    Result, Stop, Tool, Verdict, Verdicts, Verifier,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::ground_truth::{GroundTruth, GroundTruthConfig, Reference};
use crate::instance::Instance;
use crate::served::Served;

/// An environment in which the episodes of suite tasks run, one after the other: a browser, or a reader in this process.
#[async_trait]
pub trait SuiteEnvironment: Send {
    /// Prepares one episode on this instance: makes its site reachable and sets its secrets.
    ///
    /// # Errors
    /// The site cannot be served, or a tool cannot be set up.
    async fn prepare<'a>(&'a mut self, instance: &Instance) -> Result<PreparedEnvironment<'a>>;
}

/// An environment that is ready for one episode.
pub struct PreparedEnvironment<'a> {
    /// The environment in which the agent acts.
    pub environment: &'a mut dyn Environment,
    /// The tools beside it.
    pub tools: Vec<Arc<dyn Tool>>,
    /// The base URL of the instance's site.
    pub base: Url,
    /// The server of the site, which stops when this is dropped; `None` if the site needs none.
    pub served: Option<Served>,
}

/// The settings of an episode that do not depend on the player.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaySettings {
    /// The limits of the task.
    pub limits: Limits,
    /// The settings of the ground-truth judge.
    pub ground_truth: GroundTruthConfig,
}

/// The policy that plays, with everything that its agent needs besides the environment.
pub struct Player<'a> {
    /// The policy; `None` lets the instance's oracle play.
    pub policy: Option<&'a dyn Policy>,
    /// Decides milestones that have no check.
    pub verifier: Option<&'a dyn Verifier>,
    /// The store into which episodes are written.
    pub store: &'a dyn EpisodeStore,
    /// Which steps get a screenshot.
    pub screenshots: Screenshots,
    /// The id of the generation that serves the policy.
    pub generation: String,
    /// Cancels the episode.
    pub cancel: CancellationToken,
}

/// A played episode.
#[derive(Debug)]
pub struct Played {
    /// The episode.
    pub episode: Episode,
    /// Whether the checker found the task solved.
    pub solved: bool,
    /// The counts of its reference milestones.
    pub milestones: MilestoneCount,
    /// The verdicts of the ground-truth judge.
    pub verdicts: Verdicts,
}

/// The reference milestones of an episode, counted by their checks and by the server's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MilestoneCount {
    /// Number of milestones whose check held on a page while the server's state had them.
    pub verified: u64,
    /// Number of milestones that the server's state has at the end.
    #[serde(rename = "true")]
    pub reached: u64,
    /// Number of milestones whose check held before the server's state had them.
    pub premature: u64,
}

impl std::ops::AddAssign for MilestoneCount {
    fn add_assign(&mut self, other: Self) {
        self.verified += other.verified;
        self.reached += other.reached;
        self.premature += other.premature;
    }
}

/// A listener that checks the reference milestones on each observation. The agent never sees them.
pub struct MilestoneWatch<'a, 'l> {
    instance: &'a Instance,
    /// The number of observations so far, one per turn.
    observed: u32,
    /// The turn in which each milestone was verified.
    verified: Vec<Option<u32>>,
    premature: Vec<bool>,
    inner: &'a mut (dyn Listener + 'l),
}

impl<'a, 'l> MilestoneWatch<'a, 'l> {
    /// Watches an instance and forwards all events to `inner`.
    pub fn new(instance: &'a Instance, inner: &'a mut (dyn Listener + 'l)) -> Self {
        let count = instance.milestones().len();
        Self { instance, observed: 0, verified: vec![None; count], premature: vec![false; count], inner }
    }

    /// Counts the milestones so far.
    pub fn count(&self) -> MilestoneCount {
        let sum = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as u64;
        let verified = self.verified.iter().flatten().count() as u64;
        MilestoneCount { verified, reached: sum(&self.instance.truths()), premature: sum(&self.premature) }
    }

    /// Returns which milestones were verified, and in which turn.
    pub fn reached(&self) -> MilestonesReached {
        let reached = |(milestone, turn): (usize, &Option<u32>)| turn.map(|turn| Reached { milestone, turn });
        MilestonesReached {
            source: MilestoneSource::Reference,
            count: self.verified.len(),
            reached: self.verified.iter().enumerate().filter_map(reached).collect(),
        }
    }
}

impl Listener for MilestoneWatch<'_, '_> {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Observed(observation) = &event {
            let truths = self.instance.truths();
            for (index, milestone) in self.instance.milestones().iter().enumerate() {
                if milestone.check.evaluate(observation) == Verdict::True {
                    match truths[index] {
                        true => _ = self.verified[index].get_or_insert(self.observed),
                        false => self.premature[index] = true,
                    }
                }
            }
            self.observed += 1;
        }
        self.inner.event(event);
    }
}

/// Plays one instance, writes the checker's verdict into the store, and asks the ground-truth judge.
///
/// `seed` is that of the policy's sampling. `reference_environment` is for the oracle's run of the same task, with which the judge
/// compares; it should be a cheap one.
///
/// # Errors
/// An environment cannot be prepared, or the store cannot be written. Any other failure ends the episode with its reason.
pub async fn play(
    instance: &Instance,
    seed: u64,
    player: &Player<'_>,
    settings: &PlaySettings,
    environment: &mut dyn SuiteEnvironment,
    reference_environment: &mut dyn SuiteEnvironment,
    listener: &mut dyn Listener,
) -> Result<Played> {
    let mut watch = MilestoneWatch::new(instance, listener);
    let episode = play_outcome(instance, seed, player, &settings.limits, environment, &mut watch).await?;
    let (milestones, reached) = (watch.count(), watch.reached());
    let reference = match (player.policy, episode.success, instance.fresh_copy()) {
        (None, Some(true), _) => Reference::of(&episode),
        (_, _, Some(copy)) => oracle_reference(&copy, player, reference_environment).await?,
        (_, _, None) => Reference::default(),
    };
    let judge = GroundTruth::new(instance, &reference, settings.ground_truth.clone());
    let mut verdicts = Verdicts::ask(&judge, &episode, &Verdicts::questions(&episode)).await;
    verdicts.milestones = Some(reached);
    Ok(Played { solved: episode.success == Some(true), episode, milestones, verdicts })
}

/// Plays one instance and writes the checker's verdict into the store, without the ground-truth judge.
///
/// # Errors
/// An environment cannot be prepared, or the store cannot be written. Any other failure ends the episode with its reason.
pub async fn play_outcome(
    instance: &Instance,
    seed: u64,
    player: &Player<'_>,
    limits: &Limits,
    environment: &mut dyn SuiteEnvironment,
    listener: &mut dyn Listener,
) -> Result<Episode> {
    let oracle = instance.oracle();
    let PreparedEnvironment { environment, tools, base, served } = environment.prepare(instance).await?;
    let mut task = instance.task(&base)?;
    task.limits = limits.clone();
    let agent = Agent {
        policy: player.policy.unwrap_or(&oracle),
        verifier: player.verifier,
        environment,
        tools: &tools,
        store: player.store,
        listener,
        overseer: None,
        cancel: player.cancel.clone(),
        screenshots: player.screenshots,
        generation: player.generation.clone(),
        seed,
    };
    let mut episode = agent.run(task).await?;
    let solved = episode.stop == Some(Stop::Answered) && instance.success(episode.answer.as_deref());
    // An episode that the environment or a person ended has no verified outcome.
    let ended_from_outside = episode.stop.as_ref().is_none_or(Stop::ended_from_outside);
    episode.success = (!ended_from_outside).then_some(solved);
    player.store.set_success(&episode.id, episode.success).await?;
    drop(served);
    Ok(episode)
}

/// Runs the oracle on a fresh copy of the instance, within the default limits, which are enough for it to finish.
async fn oracle_reference(copy: &Instance, player: &Player<'_>, environment: &mut dyn SuiteEnvironment) -> Result<Reference> {
    let oracle = Player {
        policy: None,
        verifier: None,
        store: &DiscardingStore,
        screenshots: Screenshots::Off,
        generation: "oracle".into(),
        cancel: player.cancel.clone(),
    };
    let episode = play_outcome(copy, 0, &oracle, &Limits::default(), environment, &mut NoListener).await?;
    Ok(if episode.success == Some(true) { Reference::of(&episode) } else { Reference::default() })
}
