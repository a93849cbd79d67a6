//! `milepost improve`, `milepost experiment`, and `milepost learn policy`, the update that the loop runs as a process of its own.

use std::path::Path;

use anyhow::{Context, Result};
use milepost_improve::Error;
use milepost_improve::experiment::{self, ExperimentOptions, Spec};
use milepost_improve::rounds::Round;
use milepost_improve::run::{FinishedRun, RunContext, Start, describe, run_once};
use milepost_improve::run_settings::{RunOverrides, RunSettings};
use milepost_improve::statistics::wilson;
use milepost_improve::{runs, update};
use tokio_util::sync::CancellationToken;

use crate::cli::{ExperimentArgs, ImproveArgs};
use crate::config::Config;
use crate::exit::{BadConfig, Exit};
use crate::improve_host::{ProgramExperiments, host, loop_settings};
use crate::output::print_json;
use crate::signals::cancellation;
use crate::{model, wiring};

/// Runs the loop once, or each time that its trigger fires.
pub async fn improve(args: ImproveArgs, config: Config) -> Result<Exit> {
    let (settings, overrides) = (loop_settings(&config), overrides(&args));
    settings.weights()?;
    if !args.resume {
        // A contradiction is refused now instead of when the first trigger fires.
        RunSettings::new(&overrides, &settings).apply_to(&settings)?;
    }
    model::check(&config).context(BadConfig)?;
    let _lock = wiring::registry(&config).lock_updater()?;
    let cancel = cancellation();
    let report: fn(&Round) = |round| eprintln!("{}", describe(round));
    let host = host(&config)?;
    let context = RunContext { host: &host, settings: &settings, overrides: &overrides, cancel: cancel.clone(), report };
    let Some(trigger) = args.schedule.as_ref().or(args.every.as_ref()) else {
        let start = if args.resume { Start::Resume } else { Start::New };
        return finished(run_once(&context, start).await, args.json);
    };
    let store = wiring::store(&config).await?;
    let mut since = runs::last_written(&settings.runs())?;
    // An interrupted run is finished first; each trigger then starts a new run.
    if args.resume && finished_on_trigger(run_once(&context, Start::Resume).await, args.json)? == Exit::Cancelled {
        return Ok(Exit::Cancelled);
    }
    while trigger.wait(&store, since, &cancel).await? {
        since = chrono::Utc::now();
        if finished_on_trigger(run_once(&context, Start::New).await, args.json)? == Exit::Cancelled {
            break;
        }
    }
    Ok(Exit::Cancelled)
}

/// Returns the settings that the command line gives.
fn overrides(args: &ImproveArgs) -> RunOverrides {
    RunOverrides {
        recipe: args.recipe,
        suite: args.suite.clone(),
        candidate: args.candidate.clone(),
        rounds: args.rounds,
        budget: args.budget,
        remeasure: args.remeasure,
        environment: args.environment.map(Into::into),
    }
}

/// Prints the result of a run.
fn finished(run: milepost_improve::Result<FinishedRun>, json: bool) -> Result<Exit> {
    match run {
        Err(error @ Error::Cancelled) => {
            eprintln!("milepost: {error}");
            Ok(Exit::Cancelled)
        }
        Err(error) => Err(error.into()),
        Ok(run) if json => print_json(&run.to_json()).map(|()| Exit::Done),
        Ok(run) => {
            for one in &run.remeasured {
                let [solved, of] = one.test;
                let [low, high] = wilson(solved as u64, of as u64);
                println!("generation {}  {solved} of {of} test tasks  [{:.0} % to {:.0} %]", one.generation, low * 100.0, high * 100.0);
            }
            println!("{}", run.directory.display());
            Ok(Exit::Done)
        }
    }
}

/// Prints the result of a run that a trigger started. An error of the configuration is returned and ends the loop of runs, because it would occur
/// again. Any other error is logged, because the next run may succeed.
fn finished_on_trigger(run: milepost_improve::Result<FinishedRun>, json: bool) -> Result<Exit> {
    match run {
        Err(error) if !error.is_of_configuration() && !matches!(error, Error::Cancelled) => {
            tracing::error!(error = error.with_causes(), "this run failed; the next one begins at its time");
            Ok(Exit::of_error(&error.into()))
        }
        run => finished(run, json),
    }
}

/// Runs experiments.
pub async fn experiment(args: ExperimentArgs) -> Result<Exit> {
    let (cancel, host) = (cancellation(), ProgramExperiments::default());
    for file in &args.files {
        let spec = Spec::load(file, &host).context(BadConfig)?;
        let options = ExperimentOptions {
            work: args.work.clone(),
            results: args.results.clone(),
            environment: args.environment.into(),
            cancel: CancellationToken::clone(&cancel),
        };
        match experiment::run(&spec, &options, &host).await {
            Err(error) if error.is_cancelled() => return Ok(Exit::Cancelled),
            results if args.json => print_json(&results?)?,
            results => print!("{}", results?.table()),
        }
    }
    Ok(Exit::Done)
}

/// Runs one update, with its priority and memory limit. Only an update that is itself at fault exits with 1.
pub async fn update(request: &Path, nice: i32, memory_gib: Option<u64>) -> Result<Exit> {
    update::limit_process(nice, memory_gib)?;
    let text = std::fs::read_to_string(request).with_context(|| format!("{} cannot be read", request.display()))?;
    let request = serde_json::from_str(&text).with_context(|| format!("{} is no update request", request.display()))?;
    match update::run(request).await {
        Err(error) if error.is_of_candidate() => {
            eprintln!("milepost: {}", error.with_causes());
            Ok(Exit::Failed)
        }
        report => {
            print_json(&report?)?;
            Ok(Exit::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_does_not_end_the_loop_and_a_bad_configuration_does() {
        let exit = |error| finished_on_trigger(Err(error), false);
        assert_eq!(exit(Error::Cancelled).unwrap(), Exit::Cancelled);
        let disk = std::io::Error::other("no space left on device");
        let failed = Error::Context { context: "run-3 cannot be written".into(), source: Box::new(disk.into()) };
        assert_eq!(exit(failed).unwrap(), Exit::Environment);
        assert!(exit(Error::bad_input("there is no level hard")).is_err());
        assert!(exit(Error::Config { key: "gate.looks", problem: "must be at least 1".into() }).is_err());
    }
}
