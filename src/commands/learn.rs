//! `milepost learn`: supervised training, the check of a training set-up, and the curves of a training.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use milepost_improve::supervised::{SupervisedTraining, TrainingData, check_demonstrations};

use crate::cli::{LearnCommand, SftArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::improve_host::ProgramDemonstrations;
use crate::output::print_json;

/// The value of `--data` that stands for demonstrations of the bundled suite.
const BUNDLED_SUITE: &str = "suite:bundled";

/// Runs a `learn` command.
pub fn main(command: LearnCommand, config: Config) -> Result<Exit> {
    match command {
        // Training is blocking work on all cores, which must not run on the async runtime's workers.
        LearnCommand::Sft(args) => std::thread::spawn(move || sft(&args, config))
            .join()
            .map_err(|_| anyhow!("the training thread ended early; see the message above"))?,
        LearnCommand::Doctor { from, json } => std::thread::spawn(move || doctor(from.as_deref(), json, config))
            .join()
            .map_err(|_| anyhow!("the check ended early; see the message above"))?,
        LearnCommand::Policy { .. } => bail!("a policy update is not supervised training; it is dispatched apart"),
        LearnCommand::Plot { metrics, out } => {
            let out = out.unwrap_or_else(|| metrics.with_file_name("curve.svg"));
            milepost_learners::plot::draw_file(&metrics, &out)?;
            println!("{}", out.display());
            Ok(Exit::Done)
        }
    }
}

/// Checks a training set-up and prints the problems that were found.
fn doctor(from: Option<&Path>, json: bool, config: Config) -> Result<Exit> {
    let host = ProgramDemonstrations::new(config);
    let config = host.config();
    let diagnosis = check_demonstrations(from.unwrap_or(Path::new(&config.local.model)), &config.learn, &host)?;
    if json {
        print_json(&diagnosis)?;
    } else {
        println!(
            "{} of {} tensors receive a finite gradient",
            diagnosis.tensors - diagnosis.silent.len() - diagnosis.not_finite.len(),
            diagnosis.tensors
        );
        println!(
            "{:.3} nats a completion token, {:.1} % of the weight on prompts",
            diagnosis.nats_per_token,
            100.0 * diagnosis.prompt_share_of_weight
        );
        diagnosis.problems.iter().for_each(|problem| println!("✗ {problem}"));
    }
    Ok(if diagnosis.healthy() { Exit::Done } else { Exit::Failed })
}

fn sft(args: &SftArgs, config: Config) -> Result<Exit> {
    let mut learn = config.learn.clone();
    learn.minutes = args.minutes.or(learn.minutes);
    if let Some(steps) = args.steps {
        (learn.total_steps, learn.minutes) = (steps, None);
    }
    learn.resume |= args.resume;
    learn.curriculum_start = args.difficulty.unwrap_or(learn.curriculum_start);
    let data = match args.data.as_str() {
        BUNDLED_SUITE => TrainingData::Demonstrations,
        directory => TrainingData::Directory(Path::new(directory)),
    };
    let host = ProgramDemonstrations::new(config);
    let trained = SupervisedTraining { out: &args.out, from: args.from.as_deref(), data, config: &learn, host: &host }.run()?;
    let status = &trained.status;
    println!("{} steps, {} tokens, {:.0} s; {}", status.step, status.tokens, status.seconds, trained.directory.display());
    Ok(Exit::Done)
}
