//! `milepost improve`, and the update that it runs as a process of its own.

use std::path::Path;

use anyhow::{Context, Result, bail};
use milepost_learners::files;
use milepost_learners::gate::Verdict;
use milepost_learners::improve::{Plan, Round, State, run};
use milepost_learners::statistics::wilson;
use milepost_runtime::registry::{Figure, Occasion, Status};
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
use crate::improve::begun::Begun;
use crate::improve::runs;
use crate::improve::tasks::{measuring, templates};
use crate::improve::update;
use crate::improve::workshop::{Cancelled, SuiteWorkshop};
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
pub async fn improve(args: ImproveArgs, config: Config) -> Result<Exit> {
    config.weights()?;
    if !args.resume {
        // Refused now, and not when the first trigger comes.
        Begun::new(&args, &config).over(&config)?;
    }
    wiring::check_model(&config).map_err(|error| error.context(super::BadConfig))?;
    let _alone = wiring::registry(&config).lock_updater()?;
    let cancel = cancellation();
    let Some(trigger) = args.schedule.as_ref().or(args.every.as_ref()) else {
        return once(&args, args.resume, &config, cancel).await;
    };
    let store = wiring::store(&config).await?;
    let (mut since, mut stop) = (runs::last(&runs::place(&config))?, cancel.clone());
    // What a kill interrupted is finished first; every trigger begins a run of its own.
    if args.resume && survived(once(&args, true, &config, cancel.clone()).await)? == Exit::Cancelled {
        return Ok(Exit::Cancelled);
    }
    while trigger.wait(&store, since, &mut stop).await? {
        since = chrono::Utc::now();
        if survived(once(&args, false, &config, cancel.clone()).await)? == Exit::Cancelled {
            break;
        }
    }
    Ok(Exit::Cancelled)
}

/// How a loop of runs takes the end of one: what is wrong with the configuration will be wrong the next time, all else is told and may have passed
/// by then.
fn survived(run: Result<Exit>) -> Result<Exit> {
    let of_configuration = |error: &anyhow::Error| {
        let refused = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref::<milepost_learners::Error>(), Some(milepost_learners::Error::Config { .. }))
        };
        super::kind(error) == Exit::BadInput || error.chain().any(refused)
    };
    match run {
        Err(error) if !of_configuration(&error) => {
            tracing::error!(error = format!("{error:#}"), "this run failed; the next one begins at its time");
            Ok(super::kind(&error))
        }
        run => run,
    }
}

/// One run.
async fn once(args: &ImproveArgs, resume: bool, config: &Config, cancel: watch::Receiver<bool>) -> Result<Exit> {
    let directory = runs::latest_or_new(&runs::place(config), resume)?;
    let ended = once_in(&directory, args, resume, config, cancel).await;
    // What could not begin leaves nothing that `--resume` would go on with in the place of a run that did.
    if ended.is_err() && !resume && State::load(&directory).is_ok_and(|state| state.rounds.is_empty()) {
        std::fs::remove_dir_all(&directory).with_context(|| format!("{} cannot be removed", directory.display()))?;
    }
    ended
}

async fn once_in(directory: &Path, args: &ImproveArgs, resume: bool, config: &Config, cancel: watch::Receiver<bool>) -> Result<Exit> {
    let begun = if resume { Begun::read(directory, args, config)? } else { Begun::new(args, config) };
    let config = &begun.over(config)?;
    begun.write(directory)?;
    let store = wiring::store(config).await?;
    let mut workshop = SuiteWorkshop {
        mind: Mind::load(config).await?,
        templates: templates(&config.improve.levels, &config.improve.templates)?,
        config,
        store: &store,
        registry: wiring::registry(config),
        environment: begun.environment,
        own: begun.suite == "own",
        directory: directory.to_owned(),
        gated: runs::rounds_before(directory)?,
        cancel,
        verbose: true,
    };
    let start = start(directory, &workshop)?;
    if let (Some(name), true) = (&begun.candidate, State::load(directory)?.rounds.is_empty()) {
        let candidate = candidate(&workshop, name).await?;
        State::with_candidate(start.clone(), candidate).save(directory)?;
    }
    let plan = Plan { rounds: begun.rounds, budget: begun.budget, gate: &config.improve.gate, directory };
    let done = async {
        let state = run(&mut workshop, &plan).await?;
        let remeasured = remeasure(&workshop, &state, &start).await?;
        anyhow::Ok((state, remeasured))
    };
    match done.await {
        Err(error) if error.downcast_ref::<Cancelled>().is_some() => {
            eprintln!("milepost: {error}");
            Ok(Exit::Cancelled)
        }
        done => {
            let (state, remeasured) = done?;
            match args.json {
                true => print_json(&json!({
                    "rounds": rounds(&state), "remeasured": remeasured, "directory": directory,
                    "settings": { "suite": begun.suite, "environment": begun.environment, "model": config.base(), "improve": config.improve },
                }))?,
                false => show(&remeasured, directory),
            }
            Ok(Exit::Done)
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
    if record.status == Status::Quarantined {
        bail!(Error::BadInput(format!("generation {} is in quarantine and cannot serve; train another", record.id)));
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
            files::replace(&path, start.as_bytes())?;
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
    let promoted = state.rounds.iter().filter(|round| round.verdict() == Verdict::Promote).filter_map(|round| round.candidate.clone());
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
        files::replace(&path, &serde_json::to_vec(&measured)?)?;
    }
    Ok(measured)
}

/// What a run's rounds came to, for programs.
fn rounds(state: &State) -> Vec<serde_json::Value> {
    let one = |round: &Round| {
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
    };
    state.rounds.iter().map(one).collect()
}

/// What each generation came to, for people; its rounds were told as they went.
fn show(remeasured: &[Remeasured], directory: &Path) {
    for one in remeasured {
        let [solved, of] = one.test;
        let [low, high] = wilson(solved as u64, of as u64);
        println!("generation {}  {solved} of {of} test tasks  [{:.0} % to {:.0} %]", one.generation, low * 100.0, high * 100.0);
    }
    println!("{}", directory.display());
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

/// Runs one update, at low priority and within its memory. One that is refused for what it is exits with 1, which no other error of it does.
pub async fn update(request: &Path, nice: i32, memory_gib: Option<u64>) -> Result<Exit> {
    restrain(nice, memory_gib)?;
    let text = std::fs::read_to_string(request).with_context(|| format!("{} cannot be read", request.display()))?;
    let request = serde_json::from_str(&text).with_context(|| format!("{} is no update request", request.display()))?;
    match update::run(request).await {
        Err(error) if refused(&error) => {
            eprintln!("milepost: {error:#}");
            Ok(Exit::Failed)
        }
        report => {
            print_json(&report?)?;
            Ok(Exit::Done)
        }
    }
}

/// Whether the update itself is what is wrong: there is nothing to learn, or what would be learned is not healthy. All else is of the place that it
/// runs in.
fn refused(error: &anyhow::Error) -> bool {
    let unhealthy = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref::<milepost_learners::Error>(), Some(milepost_learners::Error::Unhealthy(_)))
    };
    error.chain().any(unhealthy)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_ends_no_loop_of_them_and_bad_configuration_does() {
        assert_eq!(survived(Ok(Exit::Cancelled)).unwrap(), Exit::Cancelled);
        let failed = anyhow::Error::new(std::io::Error::other("no space left on device")).context("run-3 cannot be written");
        assert_eq!(survived(Err(failed)).unwrap(), Exit::Environment);
        assert!(survived(Err(Error::BadInput("there is no level hard".into()).into())).is_err());
        let gate = milepost_learners::Error::Config { key: "gate.looks", problem: "must be at least 1".into() };
        assert!(survived(Err(gate.into())).is_err());
    }

    #[test]
    fn only_what_is_wrong_with_the_update_itself_refuses_it() {
        let unhealthy = milepost_learners::Error::Unhealthy("8 of 8 groups earned the same".into());
        assert!(refused(&anyhow::Error::from(unhealthy)));
        assert!(!refused(&std::io::Error::other("no space left on device").into()));
        assert!(!refused(&anyhow::anyhow!("the training thread ended early")));
    }
}
