//! One suite episode: the site, the place to act, the loop, and the reference milestones watched beside it.

use std::sync::Arc;

use anyhow::Result;
use milepost_learners::rewards::disturbed;
use milepost_runtime::config::Screenshots;
use milepost_runtime::{
    Agent, Environment, Episode, EpisodeStore, Event, Limits, Listener, MilestoneSource, MilestonesReached, NoListener, Policy, Reached,
    Secrets, Tool, Verdict, Verdicts, Verifier,
};
use milepost_suites::{GroundTruth, Instance, Reference};
use milepost_tools::browser::BrowserEnvironment;
use milepost_tools::plain::PlainEnvironment;
use serde::Serialize;
use tokio::sync::watch;
use url::Url;

use crate::cli::PlaceArg;
use crate::config::Config;
use crate::forgetful::Forgetful;
use crate::transport::{InProcess, InProcessFetch};
use crate::wiring;

/// Reference milestones of an episode, by their checks and by the server's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MilestoneCount {
    /// Verified true by their deterministic check, while the state had them.
    pub verified: u64,
    /// True by the server's state at the end.
    #[serde(rename = "true")]
    pub reached: u64,
    /// Checks that held before the state had it.
    pub premature: u64,
}

impl std::ops::AddAssign for MilestoneCount {
    fn add_assign(&mut self, other: Self) {
        self.verified += other.verified;
        self.reached += other.reached;
        self.premature += other.premature;
    }
}

/// Checks the reference milestones on each observation, next to the run: the agent never sees them.
pub struct MilestoneWatch<'a, 'l> {
    instance: &'a Instance,
    /// Observations so far: one a turn.
    observed: u32,
    /// The turn in which each was verified.
    verified: Vec<Option<u32>>,
    premature: Vec<bool>,
    inner: &'a mut (dyn Listener + 'l),
}

impl<'a, 'l> MilestoneWatch<'a, 'l> {
    /// Watches an instance, passing events on.
    pub fn new(instance: &'a Instance, inner: &'a mut (dyn Listener + 'l)) -> Self {
        let count = instance.milestones().len();
        Self { instance, observed: 0, verified: vec![None; count], premature: vec![false; count], inner }
    }

    /// What was seen so far.
    pub fn count(&self) -> MilestoneCount {
        let sum = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as u64;
        let verified = self.verified.iter().flatten().count() as u64;
        MilestoneCount { verified, reached: sum(&self.instance.truths()), premature: sum(&self.premature) }
    }

    /// Which were verified, and in which turn.
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

/// Where episodes run.
pub enum Place {
    /// Real Chromium, one session for many episodes.
    Browser(Box<BrowserEnvironment>),
    /// The plain reader in the process.
    Plain,
}

impl Place {
    /// Opens a place of this kind.
    pub async fn open(kind: PlaceArg, config: &Config) -> Result<Self> {
        Ok(match kind {
            PlaceArg::Browser => Self::Browser(Box::new(wiring::browser(config, Secrets::default()).await?)),
            PlaceArg::Plain => Self::Plain,
        })
    }

    /// Ends what it started.
    pub async fn close(self) -> Result<()> {
        if let Self::Browser(mut browser) = self {
            browser.close().await?;
        }
        Ok(())
    }
}

/// Who plays, and what is kept.
pub struct Player<'a> {
    /// The policy; `None` lets the instance's oracle play.
    pub policy: Option<&'a dyn Policy>,
    /// Decides milestones without a check.
    pub verifier: Option<&'a dyn Verifier>,
    /// Where episodes are written.
    pub store: &'a dyn EpisodeStore,
    /// Which steps leave a screenshot.
    pub screenshots: Screenshots,
    /// Id of the generation.
    pub generation: String,
    /// Cancels.
    pub cancel: watch::Receiver<bool>,
}

/// A played episode.
pub struct Played {
    /// The episode.
    pub episode: Episode,
    /// Whether the checker is satisfied.
    pub solved: bool,
    /// Its reference milestones.
    pub milestones: MilestoneCount,
    /// What the ground truth says of it.
    pub verdicts: Verdicts,
}

/// Plays one instance, writes the checker's verdict into the store, and asks the ground truth.
pub async fn play(
    instance: &Instance,
    seed: u64,
    place: &mut Place,
    player: &Player<'_>,
    config: &Config,
    listener: &mut dyn Listener,
) -> Result<Played> {
    let mut watch = MilestoneWatch::new(instance, listener);
    let episode = run(instance, seed, place, player, config, &mut watch).await?;
    let (milestones, reached) = (watch.count(), watch.reached());
    let mut verdicts = ground_truth(instance, &episode, player, config).await?;
    verdicts.milestones = Some(reached);
    Ok(Played { solved: episode.success == Some(true), episode, milestones, verdicts })
}

/// Plays one instance and writes the checker's verdict into the store.
async fn run(
    instance: &Instance,
    seed: u64,
    place: &mut Place,
    player: &Player<'_>,
    config: &Config,
    listener: &mut dyn Listener,
) -> Result<Episode> {
    let oracle = instance.oracle();
    let policy = player.policy.unwrap_or(&oracle);
    let (served, base) = match place {
        Place::Browser(_) => {
            let served = instance.serve().await?;
            let url = served.url.clone();
            (Some(served), url)
        }
        Place::Plain => (None, Url::parse("http://site.local/")?),
    };
    let mut task = instance.task(&base)?;
    task.limits = config.limits.clone();
    let mut secrets = Secrets::default();
    for (name, value) in instance.secrets() {
        secrets.add(name, value, &base);
    }
    let transport = Arc::new(InProcess(instance.router()));
    let tools: Vec<Arc<dyn Tool>> = match place {
        Place::Browser(_) => wiring::tools(config)?,
        Place::Plain => vec![Arc::new(InProcessFetch(transport.clone()))],
    };
    let mut plain;
    let environment: &mut dyn Environment = match place {
        Place::Browser(browser) => {
            browser.set_secrets(secrets);
            browser.as_mut()
        }
        Place::Plain => {
            plain = PlainEnvironment::new(transport, secrets);
            &mut plain
        }
    };
    let agent = Agent {
        policy,
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
    let solved = episode.stop == Some(milepost_runtime::Stop::Answered) && instance.success(episode.answer.as_deref());
    // What the environment or a person ended was never verified.
    episode.success = (!disturbed(episode.stop.as_ref())).then_some(solved);
    player.store.set_success(&episode.id, episode.success).await?;
    drop(served);
    Ok(episode)
}

/// What the suite says of an episode that was played on this instance.
async fn ground_truth(instance: &Instance, episode: &Episode, player: &Player<'_>, config: &Config) -> Result<Verdicts> {
    let reference = match (player.policy, episode.success, instance.again()) {
        (None, Some(true), _) => Reference::of(episode),
        (_, _, Some(again)) => reference(&again, player, config).await?,
        (_, _, None) => Reference::default(),
    };
    let judge = GroundTruth::new(instance, &reference, config.suite.clone());
    Ok(Verdicts::ask(&judge, episode, &Verdicts::questions(episode)).await)
}

/// The oracle's run in the plain reader, with room enough to finish.
async fn reference(again: &Instance, player: &Player<'_>, config: &Config) -> Result<Reference> {
    let oracle = Player {
        policy: None,
        verifier: None,
        store: &Forgetful,
        screenshots: Screenshots::Off,
        generation: "oracle".into(),
        cancel: player.cancel.clone(),
    };
    let config = Config { limits: Limits::default(), ..config.clone() };
    let episode = run(again, 0, &mut Place::Plain, &oracle, &config, &mut NoListener).await?;
    Ok(if episode.success == Some(true) { Reference::of(&episode) } else { Reference::default() })
}
