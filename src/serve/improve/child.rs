//! The improvement loop's process: in a group of its own, niced, stopped and continued, and gone when the daemon is.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use milepost_tools::owned::die_with_owner;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Order;
use super::config::{ImproveInDaemon, PlayIn};
use crate::config::Config;

/// It has so long to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many quiet looks in a row let it go on.
const QUIET: u32 = 3;
/// Most bytes of its last words that are told.
const LAST_WORDS: usize = 1000;

/// How it ended.
pub(super) struct End {
    pub(super) done: bool,
    pub(super) said: Option<String>,
    pub(super) report: Option<Value>,
}

/// The running process.
pub(super) struct Child {
    process: u32,
    ended: oneshot::Receiver<std::io::Result<ExitStatus>>,
    directory: PathBuf,
    stopped: bool,
    quiet: u32,
}

impl Child {
    /// Starts it; where the last one was cut off, it goes on from there.
    pub(super) fn start(directory: &Path, config: &Config, order: &Order) -> Result<Self> {
        let file = |name: &str| directory.join(name);
        let settings = serde_norway::to_string(config)?;
        std::fs::write(file("improve.yaml"), settings).with_context(|| format!("{} cannot be written", file("improve.yaml").display()))?;
        let open = |name: &str| File::create(file(name)).with_context(|| format!("{} cannot be written", file(name).display()));
        let mut command = Command::new(std::env::current_exe().context("the program does not find itself")?);
        command.arg("--config").arg(file("improve.yaml")).args(begun(&file("improve.running"), arguments(&config.serve.improve, order))?);
        command.stdin(Stdio::null()).stdout(open("improve.json")?).stderr(open("improve.log")?);
        restrain(&mut command, config.serve.improve.nice);
        let (told, started) = std::sync::mpsc::channel();
        let (over, ended) = oneshot::channel();
        // A child is told of its parent's death when the thread that started it ends: this one waits for it.
        std::thread::Builder::new().name("improvement".into()).spawn(move || match command.spawn() {
            Err(error) => drop(told.send(Err(error))),
            Ok(mut child) => {
                drop(told.send(Ok(child.id())));
                drop(over.send(child.wait()));
            }
        })?;
        let process = started.recv().context("the improvement did not start")?.context("the improvement cannot be started")?;
        Ok(Self { process, ended, directory: directory.to_owned(), stopped: false, quiet: 0 })
    }

    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// Stops it at once where the machine is needed, and lets it go on after a while of quiet. Says whether it stands still.
    pub(super) fn pause(&mut self, busy: bool) -> bool {
        self.quiet = if busy { 0 } else { self.quiet + 1 };
        if busy && !self.stopped {
            self.signal(libc::SIGSTOP);
            self.stopped = true;
        } else if self.stopped && self.quiet >= QUIET {
            self.signal(libc::SIGCONT);
            self.stopped = false;
        }
        self.stopped
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> End {
        let status = (&mut self.ended).await;
        let _ = std::fs::remove_file(self.directory.join("improve.running"));
        let read = |name: &str| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let report = serde_json::from_str(read("improve.json").trim()).ok();
        match status {
            Ok(Ok(status)) if status.success() => End { done: true, said: None, report },
            status => {
                let log = read("improve.log");
                let from = log.char_indices().map(|(at, _)| at).find(|at| log.len() - at <= LAST_WORDS).unwrap_or(0);
                let how = status.map_or_else(|error| error.to_string(), |status| status.map_or_else(|e| e.to_string(), |s| s.to_string()));
                End { done: false, said: Some(format!("{how}: {}", log[from..].trim())), report }
            }
        }
    }

    /// Ends it; it is told politely first.
    pub(super) async fn end(mut self) -> End {
        self.signal(libc::SIGTERM);
        self.signal(libc::SIGCONT);
        if tokio::time::timeout(PATIENCE, &mut self.ended).await.is_err() {
            self.signal(libc::SIGKILL);
        }
        End { done: false, said: Some("the daemon ended; the next run goes on from there".into()), report: None }
    }

    fn signal(&self, signal: libc::c_int) {
        if let Ok(group) = libc::pid_t::try_from(self.process) {
            // SAFETY: killpg takes two numbers and touches no memory of ours; the group is led by a child that is waited for by our thread.
            unsafe { libc::killpg(group, signal) };
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.ended.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            self.signal(libc::SIGKILL);
        }
    }
}

/// What the process is called with, written down for as long as it runs. One that was cut off goes on as what it was begun as, whatever is wanted
/// now: a run refuses to go on as another.
fn begun(running: &Path, wanted: Vec<String>) -> Result<Vec<String>> {
    let cut_off = std::fs::read_to_string(running).ok();
    let before: Option<Vec<String>> = cut_off.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut arguments = before.unwrap_or_else(|| wanted.clone());
    if arguments != wanted {
        tracing::info!(?arguments, ?wanted, "the run that was cut off is finished first");
    }
    std::fs::write(running, serde_json::to_string(&arguments)?).with_context(|| format!("{} cannot be written", running.display()))?;
    arguments.extend(cut_off.map(|_| "--resume".to_owned()));
    Ok(arguments)
}

fn arguments(config: &ImproveInDaemon, order: &Order) -> Vec<String> {
    let environment = match config.environment {
        PlayIn::Browser => "browser",
        PlayIn::Plain => "plain",
    };
    let mut all: Vec<String> = ["improve", "--json", "--suite", order.suite.word(), "--environment", environment].map(str::to_owned).into();
    all.extend(["--rounds".into(), order.rounds.to_string(), "--remeasure".into(), config.remeasure.to_string()]);
    all.extend(order.recipe.into_iter().flat_map(|recipe| ["--recipe".to_owned(), recipe.word().to_owned()]));
    all
}

/// A group of its own, low priority, and no life without the daemon.
fn restrain(command: &mut Command, nice: i32) {
    command.process_group(0);
    // SAFETY: between fork and exec only setpriority runs, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
            Ok(())
        });
    }
    die_with_owner(command);
}

#[cfg(test)]
mod tests {
    use super::super::config::LearnFrom;
    use super::*;
    use crate::improve::config::Recipe;

    #[test]
    fn a_run_that_was_cut_off_goes_on_as_what_it_was_begun_as() {
        let directory = tempfile::tempdir().unwrap();
        let running = directory.path().join("improve.running");
        let wanted = |recipe, rounds| {
            let order = Order { reason: "a test".into(), recipe: Some(recipe), suite: LearnFrom::Own, rounds };
            arguments(&ImproveInDaemon::default(), &order)
        };
        let first = wanted(Recipe::Outcome, 2);
        assert_eq!(begun(&running, first.clone()).unwrap(), first);
        let resumed = [&first[..], &["--resume".to_owned()]].concat();
        for _ in 0..2 {
            assert_eq!(begun(&running, wanted(Recipe::Successes, 1)).unwrap(), resumed);
        }
        std::fs::remove_file(&running).unwrap();
        assert_eq!(begun(&running, wanted(Recipe::Successes, 1)).unwrap(), wanted(Recipe::Successes, 1));
    }
}
