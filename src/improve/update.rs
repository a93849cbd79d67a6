//! One update of the policy, in a process of its own: recorded episodes and their rewards in, an adapter directory out.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use milepost_learners::Error::Unhealthy;
use milepost_learners::adapter::{Adapter, Lineage};
use milepost_learners::losses::overlong;
use milepost_learners::policy::{self, CreditKind, PolicyConfig, Report, Rollout, Turn};
use milepost_learners::probes::{self, Probes};
use milepost_learners::sft::Example;
use milepost_learners::{Model, Trainer, files};
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{Call, EpisodeStore, Generation, Role, Source, SqliteStore};
use milepost_text::{GrammarCompiler, TextModel};
use serde::{Deserialize, Serialize};

use crate::rollouts::Reader;

/// What an update is asked to do; written to a file that the child process reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// Name of the recipe, for the lineage.
    pub recipe: String,
    /// Directory of the base model.
    pub base: PathBuf,
    /// Directory of the adapter to train on; `None` begins a fresh one.
    pub parent: Option<PathBuf>,
    /// The generation that made the episodes.
    pub generation: Generation,
    /// Directory of the episode store.
    pub store: PathBuf,
    /// Whose tokens are trained.
    pub roles: Vec<Role>,
    /// The recipe's constants.
    pub policy: PolicyConfig,
    /// Episodes with what they earned.
    pub episodes: Vec<Rewarded>,
    /// Episodes of earlier rounds, oldest first, of which successes may be replayed.
    #[serde(default)]
    pub memory: Vec<Rewarded>,
    /// Single calls with what they earned, beside the store: a line of JSON each ([`RewardedCall`]).
    pub calls: Option<PathBuf>,
    /// Directory of the critics that an earlier update left.
    pub critics: Option<PathBuf>,
    /// Where adapter, metrics and report go.
    pub out: PathBuf,
}

/// An episode and its rewards.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewarded {
    /// The episode's id.
    pub id: String,
    /// The task that it tried.
    pub group: String,
    /// What the whole earned.
    pub reward: f64,
    /// What single turns earned.
    #[serde(default)]
    pub turns: BTreeMap<u32, f64>,
    /// How much of the task was done in the state of each turn, 0 to 1; empty where it is not known.
    #[serde(default)]
    pub progress: Vec<f64>,
}

/// A single call and its reward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardedCall {
    /// The state that it was made in; calls of one group are compared.
    pub group: String,
    /// What it earned.
    pub reward: f64,
    /// The recorded episode whose state it is; `None` for a state of the oracle's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<String>,
    /// The suite's task that the oracle shows; a call has this or an episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The call.
    pub call: Call,
}

impl RewardedCall {
    /// A call and whether it was right; whose state it was made in is still to be said.
    pub fn new(group: String, right: bool, call: Call) -> Self {
        Self { group, reward: f64::from(u8::from(right)), episode: None, source: None, call }
    }
}

/// File names in [`UpdateRequest::out`].
const ADAPTER: &str = "adapter";
const REPORT: &str = "report.json";

impl UpdateRequest {
    /// Where the finished adapter lies.
    pub fn adapter(&self) -> PathBuf {
        self.out.join(ADAPTER)
    }

    /// The finished update's report.
    ///
    /// # Errors
    /// The update has not finished.
    pub fn report(&self) -> Result<Report> {
        report(&self.out)
    }
}

/// The report of the finished update in this directory.
///
/// # Errors
/// The update has not finished.
pub fn report(out: &Path) -> Result<Report> {
    let path = out.join(REPORT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} is missing: the update did not finish", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Runs the update; the report is written last, so that a directory with one is whole.
///
/// # Errors
/// Episodes that are not there or not of this model, and all that [`policy::run`] refuses; no adapter is left then.
pub async fn run(request: UpdateRequest) -> Result<Report> {
    std::fs::create_dir_all(&request.out).with_context(|| format!("{} cannot be made", request.out.display()))?;
    let text = TextModel::load(&request.base)?;
    let compiler = GrammarCompiler::new(&text)?;
    let reader = Reader { compiler: &compiler, roles: &request.roles };
    let mut rollouts = rollouts_of(&request, &request.episodes, Some(request.generation.id()), &reader).await?;
    // What may be replayed was made by earlier generations of the same training.
    let memory = rollouts_of(&request, &request.memory, None, &reader).await?;
    rollouts.extend(single_calls(&request, &reader).await?);
    if rollouts.is_empty() {
        bail!(Unhealthy("there is nothing to train on: no episode was given".into()));
    }
    // Training is blocking work on all cores; it must not sit on the async runtime's workers.
    let work = std::thread::spawn(move || train(&request, rollouts, memory));
    work.join().map_err(|_| anyhow::anyhow!("the training thread ended early; see the message above"))?
}

fn train(request: &UpdateRequest, mut rollouts: Vec<Rollout>, memory: Vec<Rollout>) -> Result<Report> {
    let policy = &request.policy;
    let model = Model::load(&request.base)?;
    let mut trainer = match &request.parent {
        None => Trainer::lora(model, policy.lora.clone(), policy.base, policy.seed, policy.optimizer())?,
        Some(parent) => {
            let adapter = Adapter::load(parent, &model.config)?;
            Trainer::adapted(model, adapter, policy.base, policy.optimizer())?
        }
    };
    let before = trainer.model().adapter.as_ref().map(|adapter| adapter.data.clone()).unwrap_or_default();
    trainer.set_device(policy.device)?;
    trainer.set_precision(policy.precision);
    let calls = rollouts.iter().map(|rollout| rollout.turns.len()).sum();
    let again = policy::replay(&mut trainer, memory, calls, policy)?;
    let replayed = again.iter().flat_map(|rollout| &rollout.turns).filter(|turn| turn.trained_tokens() > 0).count();
    rollouts.extend(again);
    let rollouts = &mut rollouts[..];
    let critics = match policy.credit {
        CreditKind::Mira => {
            Some(policy::estimate(&mut trainer, rollouts, policy, request.critics.as_deref(), &request.out.join("critics"))?)
        }
        CreditKind::Ppo => Some(policy::estimate_returns(&mut trainer, rollouts, policy, &request.out.join("critics"))?),
        CreditKind::Episode | CreditKind::Step | CreditKind::Tree | CreditKind::Success => None,
    };
    let report = Report { critics, replayed, ..policy::run(&mut trainer, rollouts, policy, &request.out)? };
    let adapter = trainer.model().adapter.as_ref().context("no adapter was trained")?;
    check_moved(adapter, &before)?;
    adapter.save(&request.adapter(), &request.base.display().to_string(), &lineage(request, rollouts, &report)?)?;
    probes::write(&request.adapter(), &prove(request, adapter, rollouts)?)?;
    for (file, name) in [("metrics.jsonl", "metrics.jsonl"), ("metrics.svg", "curve.svg")] {
        let (from, to) = (request.out.join(file), request.adapter().join(name));
        std::fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    write(&request.out.join(REPORT), &report)?;
    Ok(report)
}

/// What a server must answer to prove that it serves this adapter: some of the calls that it was trained on, scored without grammar.
fn prove(request: &UpdateRequest, adapter: &Adapter, rollouts: &[Rollout]) -> Result<Probes> {
    let mut parent = Model::load(&request.base)?;
    let mut adapted = parent.clone();
    adapted.adapter = Some(adapter.clone());
    if let Some(directory) = &request.parent {
        parent.adapter = Some(Adapter::load(directory, &parent.config)?);
    }
    let example = |turn: &Turn| Example { prompt: turn.prompt.clone(), completion: turn.completion.clone(), ..Example::default() };
    let examples: Vec<Example> = rollouts.iter().flat_map(|rollout| rollout.turns.iter().take(2).map(example)).collect();
    Ok(probes::make(&parent, &adapted, probes::requests(&examples, request.policy.max_tokens))?)
}

/// Publishing fails closed: an adapter that is not finite, or that did not move, is none.
fn check_moved(adapter: &Adapter, before: &[f32]) -> Result<()> {
    if let Some(bad) = adapter.data.iter().find(|x| !x.is_finite()) {
        bail!(Unhealthy(format!("the trained adapter holds {bad}; lower `lr`")));
    }
    if adapter.data == before {
        bail!(Unhealthy("the update moved nothing: every gradient was skipped or zero".into()));
    }
    Ok(())
}

/// The store's own query decides what may enter training, whatever the request says.
async fn allowed(store: &SqliteStore) -> Result<HashSet<String>> {
    Ok(store.trainable(&TrainingQuery::default()).await?.into_iter().collect())
}

async fn rollouts_of(
    request: &UpdateRequest,
    episodes: &[Rewarded],
    generation: Option<String>,
    reader: &Reader<'_>,
) -> Result<Vec<Rollout>> {
    if episodes.is_empty() {
        return Ok(Vec::new());
    }
    let store = SqliteStore::open(&request.store).await?;
    let allowed = allowed(&store).await?;
    let (mut rollouts, mut stale) = (Vec::with_capacity(episodes.len()), 0);
    for rewarded in episodes {
        if !allowed.contains(&rewarded.id) {
            bail!(
                "episode {} may not be trained on: it is unverified, unfinished, held out, of a validation or test seed, or of a quarantined host",
                rewarded.id
            );
        }
        let episode = store.load(&rewarded.id).await?.with_context(|| format!("episode {} is not in the store", rewarded.id))?;
        if let Some(generation) = generation.as_ref().filter(|generation| **generation != episode.generation) {
            tracing::warn!(episode = episode.id, made_by = episode.generation, wanted = generation, "left out: another generation made it");
            stale += 1;
            continue;
        }
        let mut rollout = reader.rollout(&episode, &rewarded.group)?;
        let written = rollout.trained_tokens();
        let penalty = request.policy.overlong.as_ref().map_or(Ok(0.0), |config| overlong(config, written))?;
        rollout.reward = rewarded.reward + penalty;
        // A call of no turn is made before all turns (the plan) or behind them.
        let mut acted = false;
        for call in &mut rollout.turns {
            acted |= call.turn.is_some();
            call.progress = match call.turn {
                Some(turn) => rewarded.progress.get(turn as usize),
                None if acted => rewarded.progress.last(),
                None => rewarded.progress.first(),
            }
            .copied();
        }
        for (turn, reward) in &rewarded.turns {
            let of_turn = rollout.turns.iter_mut().rfind(|call| call.turn == Some(*turn));
            match of_turn {
                Some(call) => call.reward += reward,
                // The turn has no trained call; what it earned still counts for the whole.
                None => rollout.reward += reward,
            }
        }
        rollouts.push(rollout);
    }
    if rollouts.is_empty() {
        bail!(Unhealthy(format!("all {stale} episodes were made by other generations; collect them again")));
    }
    Ok(rollouts)
}

/// Single calls; those in a recorded episode's states only as long as that episode may be trained on, those of the oracle in training tasks alone.
async fn single_calls(request: &UpdateRequest, reader: &Reader<'_>) -> Result<Vec<Rollout>> {
    let Some(path) = &request.calls else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut calls = Vec::new();
    for (index, line) in text.lines().enumerate() {
        calls.push(serde_json::from_str::<RewardedCall>(line).with_context(|| format!("{} line {}", path.display(), index + 1))?);
    }
    let shown = |call: &&RewardedCall| call.episode.is_none() && !call.source.as_ref().is_some_and(Source::is_trainable);
    if let Some(call) = calls.iter().find(shown) {
        bail!(
            "{}: call {}: its task is held out, of a validation or test seed, or not named; it may not be trained on",
            path.display(),
            call.group
        );
    }
    if calls.iter().any(|call| call.episode.is_some()) {
        let store = SqliteStore::open(&request.store).await?;
        let allowed = allowed(&store).await?;
        let before = calls.len();
        calls.retain(|call| call.episode.as_ref().is_none_or(|id| allowed.contains(id)));
        if calls.len() < before {
            tracing::warn!(calls = before - calls.len(), "left out: their episodes may not be trained on any more");
        }
    }
    let rollout = |(index, RewardedCall { group, reward, episode, call, .. }): (usize, RewardedCall)| -> Result<Rollout> {
        let turns: Vec<Turn> = vec![reader.turn(&call, group.clone())?];
        let id = episode.map_or_else(|| format!("call {index}"), |episode| format!("call {index} of {episode}"));
        Ok(Rollout { id, success: reward > 0.0, reward, group, turns, ..Rollout::default() })
    };
    calls.into_iter().enumerate().map(rollout).collect()
}

fn lineage(request: &UpdateRequest, rollouts: &[Rollout], report: &Report) -> Result<Lineage> {
    let figures = [("reward", report.reward), ("success", report.success), ("kl", report.kl), ("loss", report.last_loss)];
    let generation = &request.generation;
    Ok(Lineage {
        base: generation.weights().to_owned(),
        tokenizer: generation.tokenizer.clone(),
        template: generation.chat_template.clone(),
        prompts: generation.prompts.clone(),
        parent: Some(generation.id()),
        recipe: request.recipe.clone(),
        episodes: rollouts.iter().map(|rollout| rollout.id.clone()).collect(),
        config: serde_json::to_value(&request.policy)?,
        seed: request.policy.seed,
        figures: figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    })
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(files::replace(path, serde_json::to_string_pretty(value)?.as_bytes())?)
}
