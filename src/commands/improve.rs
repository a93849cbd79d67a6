//! `milepost improve`, and the update that it runs as a process of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use milepost_learners::improve::{Plan, State, run};
use milepost_learners::statistics::wilson;
use milepost_runtime::registry::{Figure, Occasion};
use milepost_runtime::{AdapterRegistry, Error, Split};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use super::{cancellation, print_json};
use crate::cli::{ExperimentArgs, ImproveArgs};
use crate::config::{AdapterChoice, Config};
use crate::exit::Exit;
use crate::experiment::{self, Running, Spec};
use crate::generations;
use crate::improve::tasks::{measuring, templates};
use crate::improve::update;
use crate::improve::workshop::{Cancelled, NO_BASE, SuiteWorkshop};
use crate::wiring::{self, Mind};

/// A generation measured again on test tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remeasured {
    /// Its id.
    generation: String,
    /// Tasks solved, of how many.
    test: [usize; 2],
}

/// Runs the loop: once, or whenever its trigger says so.
pub async fn improve(args: ImproveArgs, mut config: Config) -> Result<Exit> {
    config.improve.recipe = args.recipe.unwrap_or(config.improve.recipe);
    config.improve.remeasure = args.remeasure.unwrap_or(config.improve.remeasure);
    if config.base().is_none() {
        bail!(Error::BadInput(NO_BASE.into()));
    }
    if args.suite == "own" && config.improve.recipe.needs_the_suite() {
        bail!(Error::BadInput(format!(
            "`--suite own` knows the outcome of an episode alone, and the recipe {} asks for more; use outcome, gigpo, successes or single_turn",
            config.improve.recipe.word()
        )));
    }
    wiring::check_model(&config).map_err(|error| error.context(super::BadConfig))?;
    let _alone = wiring::registry(&config).lock_updater()?;
    let cancel = cancellation();
    let Some(trigger) = args.schedule.as_ref().or(args.every.as_ref()) else {
        return once(&args, args.resume, &config, cancel).await;
    };
    let store = wiring::store(&config).await?;
    let (mut since, mut stop) = (chrono::Utc::now(), cancel.clone());
    // What a kill interrupted is finished first; every trigger begins a run of its own.
    if args.resume && once(&args, true, &config, cancel.clone()).await? == Exit::Cancelled {
        return Ok(Exit::Cancelled);
    }
    while trigger.wait(&store, since, &mut stop).await? {
        since = chrono::Utc::now();
        if once(&args, false, &config, cancel.clone()).await? == Exit::Cancelled {
            break;
        }
    }
    Ok(Exit::Cancelled)
}

/// One run.
async fn once(args: &ImproveArgs, resume: bool, config: &Config, cancel: watch::Receiver<bool>) -> Result<Exit> {
    let runs = config.improve.directory.clone().unwrap_or_else(|| config.episodes.directory.join("improve"));
    let directory = directory(&runs, resume)?;
    let store = wiring::store(config).await?;
    let mut workshop = SuiteWorkshop {
        mind: Mind::load(config).await?,
        templates: templates(&config.improve.levels, &config.improve.templates)?,
        config,
        store: &store,
        registry: wiring::registry(config),
        environment: args.environment,
        own: args.suite == "own",
        directory: directory.clone(),
        cancel,
        verbose: true,
    };
    let start = start(&directory, &workshop)?;
    if let Some(name) = &args.candidate {
        let candidate = candidate(&workshop, name).await?;
        State::with_candidate(start.clone(), candidate).save(&directory)?;
    }
    let plan = Plan { rounds: args.rounds, budget: args.budget, gate: &config.improve.gate, directory: &directory };
    let state = match run(&mut workshop, &plan).await {
        Err(error) if error.downcast_ref::<Cancelled>().is_some() => {
            eprintln!("milepost: {error}");
            return Ok(Exit::Cancelled);
        }
        state => state?,
    };
    let remeasured = remeasure(&workshop, &state, &start).await?;
    report(&state, &remeasured, &directory, args.json)?;
    Ok(Exit::Done)
}

/// The latest run's directory, or that of a new one.
fn directory(runs: &Path, resume: bool) -> Result<PathBuf> {
    std::fs::create_dir_all(runs).with_context(|| format!("{} cannot be made", runs.display()))?;
    let entries = std::fs::read_dir(runs).with_context(|| format!("{} cannot be read", runs.display()))?;
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("run-")?.parse::<usize>().ok();
    let latest = entries.flatten().filter_map(number).max();
    match (latest, resume) {
        (Some(latest), true) => Ok(runs.join(format!("run-{latest}"))),
        (None, true) => bail!(Error::BadInput(format!("there is no run in {} to go on with; leave out --resume", runs.display()))),
        (latest, false) => {
            let new = runs.join(format!("run-{}", latest.map_or(1, |latest| latest + 1)));
            std::fs::create_dir(&new).with_context(|| format!("{} cannot be made", new.display()))?;
            Ok(new)
        }
    }
}

/// The generation of an adapter that goes to the gate by itself; a directory is registered first.
async fn candidate(workshop: &SuiteWorkshop<'_>, name: &str) -> Result<String> {
    let serving = workshop.mind.engine.generation();
    let record = if Path::new(name).is_dir() {
        workshop.registry.register(Path::new(name), &serving).await?
    } else {
        generations::find(&workshop.registry, name).await?
    };
    if record.id == serving.id() {
        bail!(Error::BadInput(format!("generation {} serves already; there is nothing to compare it with", record.id)));
    }
    Ok(record.id)
}

/// The generation that the run began with, written down at its first start.
fn start(directory: &Path, workshop: &SuiteWorkshop<'_>) -> Result<String> {
    let path = directory.join("start");
    match std::fs::read_to_string(&path) {
        Ok(start) => Ok(start.trim().to_owned()),
        Err(_) => {
            let start = workshop.mind.engine.generation().id();
            std::fs::write(&path, &start).with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(start)
        }
    }
}

/// Measures the start and each promoted generation on the same test tasks; what was measured before a kill is not measured again.
async fn remeasure(workshop: &SuiteWorkshop<'_>, state: &State, start: &str) -> Result<Vec<Remeasured>> {
    let count = workshop.config.improve.remeasure;
    if count == 0 {
        return Ok(Vec::new());
    }
    let path = workshop.directory.join("remeasured.json");
    let mut measured: Vec<Remeasured> = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?,
        Err(_) => Vec::new(),
    };
    let promoted = state.rounds.iter().filter(|round| round.note.is_none()).filter_map(|round| {
        let decision = round.decision.as_ref()?;
        (decision.verdict == milepost_learners::gate::Verdict::Promote).then(|| round.candidate.clone())?
    });
    let assignments = measuring(&workshop.templates, Split::Test, 0, count);
    for generation in std::iter::once(start.to_owned()).chain(promoted) {
        if measured.iter().any(|one| one.generation == generation && one.test[1] == count) {
            continue;
        }
        let known = workshop.registry.get(&generation).await?;
        let adapter = if known.is_some() { AdapterChoice::Named(generation.clone()) } else { AdapterChoice::None };
        let solved = workshop.measure(&workshop.other(adapter).await?, &assignments).await?;
        let test = [solved.iter().filter(|one| one.solved).count(), solved.len()];
        if known.is_some() {
            let tasks = format!("test tasks of {}", workshop.config.improve.levels.join(" and "));
            workshop.registry.measured(&generation, Figure::new(Occasion::Remeasured, test.map(|count| count as u64), tasks)).await?;
        }
        measured.push(Remeasured { generation, test });
        std::fs::write(&path, serde_json::to_string(&measured)?).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(measured)
}

fn report(state: &State, remeasured: &[Remeasured], directory: &Path, as_json: bool) -> Result<()> {
    if as_json {
        let rounds: Vec<_> = state
            .rounds
            .iter()
            .map(|round| {
                let (decision, none) = (round.decision.as_ref(), [0, 0]);
                json!({
                    "candidate": round.candidate, "incumbent": round.incumbent, "note": round.note, "seconds": round.seconds,
                    "training": [round.solved, round.episodes],
                    "validation": {
                        "candidate": decision.map_or(none, |decision| decision.candidate),
                        "incumbent": decision.map_or(none, |decision| decision.incumbent),
                    },
                    "p": decision.map(|decision| decision.p),
                    "decision": decision.map_or(serde_json::Value::from("inconclusive"), |decision| json!(decision.verdict)),
                    "reason": decision.map(|decision| &decision.reason),
                })
            })
            .collect();
        return print_json(&json!({ "rounds": rounds, "remeasured": remeasured, "directory": directory }));
    }
    for one in remeasured {
        let [solved, of] = one.test;
        let [low, high] = wilson(solved as u64, of as u64);
        println!("generation {}  {solved} of {of} test tasks  [{:.0} % to {:.0} %]", one.generation, low * 100.0, high * 100.0);
    }
    println!("{}", directory.display());
    Ok(())
}

/// Runs experiments.
pub async fn experiment(args: ExperimentArgs) -> Result<Exit> {
    let cancel = cancellation();
    for file in &args.files {
        let spec = Spec::load(file).map_err(|error| error.context(super::BadConfig))?;
        let running =
            Running { work: args.work.clone(), results: args.results.clone(), environment: args.environment, cancel: cancel.clone() };
        match experiment::run(&spec, &running).await {
            Err(error) if error.downcast_ref::<Cancelled>().is_some() => return Ok(Exit::Cancelled),
            results if args.json => print_json(&results?)?,
            results => print!("{}", results?.table()),
        }
    }
    Ok(Exit::Done)
}

/// Runs one update, at low priority and within its memory.
pub async fn update(request: &Path, nice: i32, memory_gib: Option<u64>) -> Result<Exit> {
    restrain(nice, memory_gib)?;
    let text = std::fs::read_to_string(request).with_context(|| format!("{} cannot be read", request.display()))?;
    let request = serde_json::from_str(&text).with_context(|| format!("{} is no update request", request.display()))?;
    let report = update::run(request).await?;
    print_json(&report)?;
    Ok(Exit::Done)
}

/// Lowers this process's priority and bounds its memory: it must not stall or kill the server beside it.
fn restrain(nice: i32, memory_gib: Option<u64>) -> Result<()> {
    // SAFETY: setpriority takes three integers and touches no memory of ours.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        tracing::warn!(nice, error = %std::io::Error::last_os_error(), "the priority stays as it is");
    }
    let Some(gib) = memory_gib else { return Ok(()) };
    let limit = libc::rlimit { rlim_cur: gib << 30, rlim_max: gib << 30 };
    // SAFETY: setrlimit reads the struct that it is given, which outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } != 0 {
        return Err(std::io::Error::last_os_error()).context("the memory of the update cannot be bounded");
    }
    Ok(())
}
