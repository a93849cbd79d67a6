//! One run of the loop: a new or resumed run goes through its rounds, and measures the promoted generations again on test tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost_learners::files;
use milepost_runtime::registry::{AdapterChoice, Figure, Occasion, Status};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Split, SqliteStore};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, ResultExt};
use crate::gate::Verdict;
use crate::generations;
use crate::host::{Host, LoadedModel};
use crate::rounds::{Round, RunPlan, State, run};
use crate::run_settings::{RunOverrides, RunSettings};
use crate::runs;
use crate::settings::LoopSettings;
use crate::stages::SuiteStages;
use crate::tasks::{measuring, select_templates};

/// A generation that was measured again on test tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remeasured {
    /// The generation's id.
    pub generation: String,
    /// The number of solved tasks, and the number of tasks.
    pub test: [usize; 2],
}

/// Whether a run is new or resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A new run starts.
    New,
    /// The latest run is resumed.
    Resume,
}

/// A run that has ended.
pub struct FinishedRun {
    /// The state of the run, with its rounds.
    pub state: State,
    /// The generations that were measured again.
    pub remeasured: Vec<Remeasured>,
    /// The directory of the run.
    pub directory: PathBuf,
    /// The settings that the run was started with.
    pub settings: RunSettings,
    /// The settings of the loop, overridden by those of the run.
    pub loop_settings: LoopSettings,
}

/// Everything that a run needs.
pub struct RunContext<'a> {
    /// The suite, the models and the prompts.
    pub host: &'a Host,
    /// The settings of the program's configuration.
    pub settings: &'a LoopSettings,
    /// The settings of the command line.
    pub overrides: &'a RunOverrides,
    /// The token that cancels the run.
    pub cancel: CancellationToken,
    /// Reports the progress of a round to a person.
    pub report: fn(&Round),
}

/// Runs the loop once.
///
/// # Errors
/// The run cannot continue; `--resume` resumes it. The error is [`Error::Cancelled`] if a person cancelled it.
pub async fn run_once(context: &RunContext<'_>, start: Start) -> Result<FinishedRun> {
    let directory = runs::latest_or_new(&context.settings.runs(), start == Start::Resume)?;
    let ended = run_in(&directory, context, start).await;
    // A run that could not start leaves no directory, which `--resume` would otherwise take for the latest run.
    if ended.is_err() && start == Start::New && State::load(&directory).is_ok_and(|state| state.rounds.is_empty()) {
        std::fs::remove_dir_all(&directory).with_context(|| format!("{} cannot be removed", directory.display()))?;
    }
    ended
}

async fn run_in(directory: &Path, context: &RunContext<'_>, start: Start) -> Result<FinishedRun> {
    let settings = match start {
        Start::Resume => RunSettings::read(directory, context.overrides, context.settings)?,
        Start::New => RunSettings::new(context.overrides, context.settings),
    };
    let loop_settings = settings.apply_to(context.settings)?;
    settings.write(directory)?;
    let store = SqliteStore::open(&loop_settings.episodes).await?;
    let mut stages = SuiteStages {
        host: context.host.clone(),
        model: context.host.models.load(loop_settings.adapter.clone()).await?,
        templates: select_templates(&*context.host.suite, &loop_settings.improve.levels, &loop_settings.improve.templates)?,
        settings: loop_settings.clone(),
        store: &store,
        registry: DirectoryRegistry::new(loop_settings.registry()),
        environment: settings.environment,
        own_tasks: settings.learns_from_own_tasks(),
        directory: directory.to_owned(),
        earlier_rounds: runs::rounds_before(directory)?,
        cancel: context.cancel.clone(),
        report: context.report,
    };
    let first = first_generation(directory, &stages)?;
    if let (Some(name), true) = (&settings.candidate, State::load(directory)?.rounds.is_empty()) {
        let candidate = candidate(&stages, name).await?;
        State::with_candidate(first.clone(), candidate).save(directory)?;
    }
    let plan = RunPlan { rounds: settings.rounds, budget: settings.budget, gate: &loop_settings.improve.gate, directory };
    let state = run(&mut stages, &plan).await?;
    let remeasured = remeasure(&stages, &state, &first).await?;
    Ok(FinishedRun { state, remeasured, directory: directory.to_owned(), settings, loop_settings })
}

/// Finds the generation of an adapter that goes to the gate without training; a directory is registered first.
async fn candidate(stages: &SuiteStages<'_>, name: &str) -> Result<String> {
    let serving = stages.model.engine().generation();
    let record = if Path::new(name).is_dir() {
        stages.registry.register(Path::new(name), &serving).await?
    } else {
        generations::find(&stages.registry, name).await?
    };
    if record.id == serving.id() {
        return Err(Error::bad_input(format!("generation {} serves already; there is nothing to compare it with", record.id)));
    }
    if record.status == Status::Quarantined {
        return Err(Error::bad_input(format!("generation {} is in quarantine and cannot serve; train another", record.id)));
    }
    Ok(record.id)
}

/// Returns the generation that the run started with; its first start writes the id into the run's directory.
fn first_generation(directory: &Path, stages: &SuiteStages<'_>) -> Result<String> {
    let path = directory.join("start");
    match std::fs::read_to_string(&path) {
        Ok(first) => Ok(first.trim().to_owned()),
        Err(_) => {
            let first = stages.serving();
            files::replace(&path, first.as_bytes())?;
            Ok(first)
        }
    }
}

/// Measures the first and each promoted generation on the same test tasks. A generation that was measured before a kill is not measured again.
async fn remeasure(stages: &SuiteStages<'_>, state: &State, first: &str) -> Result<Vec<Remeasured>> {
    let count = stages.settings.improve.remeasure;
    if count == 0 {
        return Ok(Vec::new());
    }
    let path = stages.directory.join("remeasured.json");
    let mut measured: Vec<Remeasured> = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?,
        Err(_) => Vec::new(),
    };
    let promoted = state.rounds.iter().filter(|round| round.verdict() == Verdict::Promote).filter_map(|round| round.candidate.clone());
    let assignments = measuring(&stages.templates, Split::Test, 0, count);
    for generation in std::iter::once(first.to_owned()).chain(promoted) {
        if measured.iter().any(|one| one.generation == generation && one.test[1] == count) {
            continue;
        }
        let known = stages.registry.get(&generation).await?;
        let adapter = if known.is_some() { AdapterChoice::Named(generation.clone()) } else { AdapterChoice::None };
        let model: Arc<dyn LoadedModel> = stages.load(adapter).await?;
        let ended = stages.measure(&*model, &assignments).await?;
        let test = [ended.iter().filter(|one| one.solved).count(), ended.len()];
        if known.is_some() {
            let tasks = format!("test tasks of {}", stages.settings.improve.levels.join(" and "));
            stages.registry.measured(&generation, Figure::new(Occasion::Remeasured, test.map(|count| count as u64), tasks)).await?;
        }
        measured.push(Remeasured { generation, test });
        files::replace(&path, &serde_json::to_vec(&measured)?)?;
    }
    Ok(measured)
}

impl FinishedRun {
    /// Returns the run as JSON, for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "rounds": self.state.rounds.iter().map(round_json).collect::<Vec<_>>(),
            "remeasured": self.remeasured,
            "directory": self.directory,
            "settings": {
                "suite": self.settings.suite, "environment": self.settings.environment, "model": self.loop_settings.base, "improve": self.loop_settings.improve,
            },
        })
    }
}

fn round_json(round: &Round) -> Value {
    let (decision, none) = (round.decision.as_ref(), [0, 0]);
    json!({
        "candidate": round.candidate, "incumbent": round.incumbent, "note": round.note, "seconds": round.seconds,
        "training": [round.solved, round.episodes],
        "validation": {
            "candidate": decision.map_or(none, |decision| decision.candidate),
            "incumbent": decision.map_or(none, |decision| decision.incumbent),
        },
        "p": decision.map(|decision| decision.p),
        "decision": round.verdict(),
        "reason": round.reason(),
    })
}

/// Describes the progress of a round in one line.
pub fn describe(round: &Round) -> String {
    let number = round.number;
    match (&round.decision, &round.note, &round.update) {
        (_, Some(note), _) => format!("round {number}: no candidate in service: {note}"),
        (Some(decision), None, _) => format!("round {number}: {:?}: {}", decision.verdict, decision.reason),
        (None, None, Some(update)) if round.pairs.is_empty() => format!(
            "round {number}: trained on {} calls in {} steps ({} of {} groups said nothing), KL {:.4}",
            update.calls, update.steps, update.flat_groups, update.groups, update.kl
        ),
        (None, None, Some(_)) => format!("round {number}: {} validation tasks, not clear yet", round.pairs.len()),
        (None, None, None) => format!("round {number}: {} of {} training episodes solved", round.solved, round.episodes),
    }
}
