//! One update of the policy, run in a process of its own: it reads recorded episodes and their rewards and writes an adapter directory.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use milepost_learners::Error::Unhealthy;
use milepost_learners::adapter::{Adapter, Lineage};
use milepost_learners::losses::overlong;
use milepost_learners::policy::{self, CreditKind, ModelCall, PolicyConfig, Report, Rollout};
use milepost_learners::probes::{self, Probes};
use milepost_learners::sft::Example;
use milepost_learners::{Model, Trainer, files};
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{Call, EpisodeStore, Generation, Role, Source, SqliteStore};
use milepost_text::{GrammarCompiler, TextModel};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::rollouts::RolloutReader;

/// The request for an update, which is written to a file that the child process reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// The recipe's name, for the lineage.
    pub recipe: String,
    /// The directory of the base model.
    pub base: PathBuf,
    /// The directory of the adapter that is trained further; `None` begins a new one.
    pub parent: Option<PathBuf>,
    /// The generation that made the episodes.
    pub generation: Generation,
    /// The directory of the episode store.
    pub store: PathBuf,
    /// The roles whose tokens are trained.
    pub roles: Vec<Role>,
    /// The recipe's constants.
    pub policy: PolicyConfig,
    /// The episodes with their rewards.
    pub episodes: Vec<Rewarded>,
    /// Episodes of earlier rounds, oldest first, whose successes may be replayed.
    #[serde(default)]
    pub memory: Vec<Rewarded>,
    /// A file of single calls with their rewards, one line of JSON each ([`RewardedCall`]).
    pub calls: Option<PathBuf>,
    /// The directory of the critics that an earlier update left.
    pub critics: Option<PathBuf>,
    /// The directory that adapter, metrics and report are written to.
    pub out: PathBuf,
}

/// An episode and its rewards.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewarded {
    /// The episode's id.
    pub id: String,
    /// The task, which names the group.
    pub group: String,
    /// The reward of the whole episode.
    pub reward: f64,
    /// The rewards of single turns.
    #[serde(default)]
    pub turns: BTreeMap<u32, f64>,
    /// The fraction of the task that was done in the state of each turn; empty if that is unknown.
    #[serde(default)]
    pub progress: Vec<f64>,
}

/// A single call and its reward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardedCall {
    /// The state in which it was made; calls of one group are compared with each other.
    pub group: String,
    /// The reward.
    pub reward: f64,
    /// The recorded episode that the state belongs to; `None` for a state of an oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<String>,
    /// The suite's task that the oracle played; a call has either this or an episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The call.
    pub call: Call,
}

impl RewardedCall {
    /// Makes a rewarded call, with a reward of 1 if it was right and 0 otherwise. The episode or source of its state is set later.
    pub fn new(group: String, right: bool, call: Call) -> Self {
        Self { group, reward: f64::from(u8::from(right)), episode: None, source: None, call }
    }
}

/// Lowers the priority of this process and limits its memory, so that an update neither slows down nor kills the server beside it.
///
/// # Errors
/// The memory cannot be limited.
pub fn limit_process(nice: i32, memory_gib: Option<u64>) -> Result<()> {
    // SAFETY: setpriority takes three integers and touches no memory of this process.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        tracing::warn!(nice, error = %std::io::Error::last_os_error(), "the priority stays as it is");
    }
    let Some(gib) = memory_gib else { return Ok(()) };
    let limit = libc::rlimit { rlim_cur: gib << 30, rlim_max: gib << 30 };
    // SAFETY: setrlimit only reads the struct behind the pointer, which outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } != 0 {
        return Err(std::io::Error::last_os_error()).context("the memory of the update cannot be bounded");
    }
    Ok(())
}

/// The file names in [`UpdateRequest::out`].
const ADAPTER: &str = "adapter";
const REPORT: &str = "report.json";

impl UpdateRequest {
    /// Returns the directory of the finished adapter.
    pub fn adapter(&self) -> PathBuf {
        self.out.join(ADAPTER)
    }

    /// Reads the report of the finished update.
    ///
    /// # Errors
    /// The update has not finished.
    pub fn report(&self) -> Result<Report> {
        report(&self.out)
    }
}

/// Reads the report of the finished update in this directory.
///
/// # Errors
/// The update has not finished.
pub fn report(out: &Path) -> Result<Report> {
    let path = out.join(REPORT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} is missing: the update did not finish", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Runs the update. The report is written last, so that a directory that has one is complete.
///
/// # Errors
/// An episode is missing or of another model, or [`policy::run`] refuses; no adapter is left then.
pub async fn run(request: UpdateRequest) -> Result<Report> {
    std::fs::create_dir_all(&request.out).with_context(|| format!("{} cannot be made", request.out.display()))?;
    let text = TextModel::load(&request.base)?;
    let compiler = GrammarCompiler::new(&text)?;
    let reader = RolloutReader { compiler: &compiler, roles: &request.roles };
    let mut rollouts = rollouts_of(&request, &request.episodes, Some(request.generation.id()), &reader).await?;
    // The episodes that may be replayed were made by earlier generations, so their generation is not checked.
    let memory = rollouts_of(&request, &request.memory, None, &reader).await?;
    rollouts.extend(single_calls(&request, &reader).await?);
    if rollouts.is_empty() {
        return Err(Unhealthy("there is nothing to train on: no episode was given".into()).into());
    }
    // Training is blocking work on all cores and must not run on the async runtime's workers.
    let work = std::thread::spawn(move || train(&request, rollouts, memory));
    work.join().map_err(|_| Error::Failed("the training thread ended early; see the message above".into()))?
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
    let calls = rollouts.iter().map(|rollout| rollout.calls.len()).sum();
    let again = policy::replay(&mut trainer, memory, calls, policy)?;
    let replayed = again.iter().flat_map(|rollout| &rollout.calls).filter(|turn| turn.trained_tokens() > 0).count();
    rollouts.extend(again);
    let rollouts = &mut rollouts[..];
    let critics = match policy.credit {
        CreditKind::Mira => {
            Some(policy::fit_mira_critics(&mut trainer, rollouts, policy, request.critics.as_deref(), &request.out.join("critics"))?)
        }
        CreditKind::Ppo => Some(policy::fit_return_critic(&mut trainer, rollouts, policy, &request.out.join("critics"))?),
        CreditKind::Episode | CreditKind::Step | CreditKind::Tree | CreditKind::Success => None,
    };
    let report = Report { critics, replayed, ..policy::run(&mut trainer, rollouts, policy, &request.out)? };
    let adapter = trainer.model().adapter.as_ref().context("no adapter was trained")?;
    check_moved(adapter, &before)?;
    adapter.save(&request.adapter(), &request.base.display().to_string(), &lineage(request, rollouts, &report)?)?;
    probes::write(&request.adapter(), &make_probes(request, adapter, rollouts)?)?;
    for (file, name) in [("metrics.jsonl", "metrics.jsonl"), ("metrics.svg", "curve.svg")] {
        let (from, to) = (request.out.join(file), request.adapter().join(name));
        std::fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    write(&request.out.join(REPORT), &report)?;
    Ok(report)
}

/// Makes the probes with which a server proves that it serves this adapter. They are some of the calls that the adapter was trained on, scored
/// without a grammar.
fn make_probes(request: &UpdateRequest, adapter: &Adapter, rollouts: &[Rollout]) -> Result<Probes> {
    let mut parent = Model::load(&request.base)?;
    let mut adapted = parent.clone();
    adapted.adapter = Some(adapter.clone());
    if let Some(directory) = &request.parent {
        parent.adapter = Some(Adapter::load(directory, &parent.config)?);
    }
    let example = |turn: &ModelCall| Example { prompt: turn.prompt.clone(), completion: turn.completion.clone(), ..Example::default() };
    let examples: Vec<Example> = rollouts.iter().flat_map(|rollout| rollout.calls.iter().take(2).map(example)).collect();
    Ok(probes::make(&parent, &adapted, probes::requests(&examples, request.policy.max_tokens))?)
}

/// Refuses an adapter that is not finite or that did not change, so that it is never published.
fn check_moved(adapter: &Adapter, before: &[f32]) -> Result<()> {
    if let Some(bad) = adapter.data.iter().find(|x| !x.is_finite()) {
        return Err(Unhealthy(format!("the trained adapter holds {bad}; lower `lr`")).into());
    }
    if adapter.data == before {
        return Err(Unhealthy("the update moved nothing: every gradient was skipped or zero".into()).into());
    }
    Ok(())
}

/// Reads the ids of the episodes that may be trained on; the store decides that, whatever the request says.
async fn allowed(store: &SqliteStore) -> Result<HashSet<String>> {
    Ok(store.trainable(&TrainingQuery::default()).await?.into_iter().collect())
}

async fn rollouts_of(
    request: &UpdateRequest,
    episodes: &[Rewarded],
    generation: Option<String>,
    reader: &RolloutReader<'_>,
) -> Result<Vec<Rollout>> {
    if episodes.is_empty() {
        return Ok(Vec::new());
    }
    let store = SqliteStore::open(&request.store).await?;
    let allowed = allowed(&store).await?;
    let (mut rollouts, mut stale) = (Vec::with_capacity(episodes.len()), 0);
    for rewarded in episodes {
        if !allowed.contains(&rewarded.id) {
            return Err(Error::Failed(format!(
                "episode {} may not be trained on: it is unverified, unfinished, held out, of a validation or test seed, or of a quarantined host",
                rewarded.id
            )));
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
        // A call without a turn was made before the first turn, for the plan, or after the last.
        let mut acted = false;
        for call in &mut rollout.calls {
            acted |= call.turn.is_some();
            call.progress = match call.turn {
                Some(turn) => rewarded.progress.get(turn as usize),
                None if acted => rewarded.progress.last(),
                None => rewarded.progress.first(),
            }
            .copied();
        }
        for (turn, reward) in &rewarded.turns {
            let of_turn = rollout.calls.iter_mut().rfind(|call| call.turn == Some(*turn));
            match of_turn {
                Some(call) => call.reward += reward,
                // The turn has no trained call; its reward still counts for the whole episode.
                None => rollout.reward += reward,
            }
        }
        rollouts.push(rollout);
    }
    if rollouts.is_empty() {
        return Err(Unhealthy(format!("all {stale} episodes were made by other generations; collect them again")).into());
    }
    Ok(rollouts)
}

/// Reads the single calls. A call in a state of a recorded episode is used only while that episode may be trained on; a call in a state of an
/// oracle must belong to a training task.
async fn single_calls(request: &UpdateRequest, reader: &RolloutReader<'_>) -> Result<Vec<Rollout>> {
    let Some(path) = &request.calls else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut calls = Vec::new();
    for (index, line) in text.lines().enumerate() {
        calls.push(serde_json::from_str::<RewardedCall>(line).with_context(|| format!("{} line {}", path.display(), index + 1))?);
    }
    let barred = |call: &&RewardedCall| call.episode.is_none() && !call.source.as_ref().is_some_and(Source::is_trainable);
    if let Some(call) = calls.iter().find(barred) {
        return Err(Error::Failed(format!(
            "{}: call {}: its task is held out, of a validation or test seed, or not named; it may not be trained on",
            path.display(),
            call.group
        )));
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
        let calls: Vec<ModelCall> = vec![reader.turn(&call, group.clone())?];
        let id = episode.map_or_else(|| format!("call {index}"), |episode| format!("call {index} of {episode}"));
        Ok(Rollout { id, success: reward > 0.0, reward, group, calls, ..Rollout::default() })
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
