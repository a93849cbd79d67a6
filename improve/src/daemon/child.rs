//! The process of a run beside the daemon. It has a process group of its own and a low priority, is stopped under load and continued later, and
//! ends with the daemon.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use milepost_runtime::process::die_with_owner;
use serde_json::Value;
use tokio::sync::oneshot;

use super::config::ImproveInDaemon;
use super::order::Order;
use crate::error::{Result, ResultExt};

/// How long the process may take to end after SIGTERM.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of consecutive checks without high load after which a stopped process is continued.
const QUIET_CHECKS: u32 = 3;
/// The maximum number of bytes at the end of the log that are reported.
const LOG_TAIL: usize = 1000;

/// How the process ended.
pub(super) struct End {
    /// Whether the run succeeded.
    pub(super) done: bool,
    /// The end of the log, if the run failed.
    pub(super) said: Option<String>,
    /// The report of the run.
    pub(super) report: Option<Value>,
}

/// The program that is started, with its settings.
#[derive(Clone, Debug)]
pub struct Program {
    /// The path of the program, which is this one.
    pub path: PathBuf,
    /// The whole configuration as YAML.
    pub settings: String,
    /// The directory for its settings, log and report.
    pub directory: PathBuf,
}

/// The running process.
pub(super) struct Child {
    process: u32,
    ended: oneshot::Receiver<std::io::Result<ExitStatus>>,
    directory: PathBuf,
    stopped: bool,
    /// The number of consecutive checks without high load.
    quiet: u32,
}

impl Child {
    /// Starts the process. An interrupted run is resumed.
    pub(super) fn start(program: &Program, config: &ImproveInDaemon, order: &Order) -> Result<Self> {
        let directory = &program.directory;
        let file = |name: &str| directory.join(name);
        let settings = file("improve.yaml");
        std::fs::write(&settings, &program.settings).with_context(|| format!("{} cannot be written", settings.display()))?;
        let open = |name: &str| File::create(file(name)).with_context(|| format!("{} cannot be written", file(name).display()));
        let mut command = Command::new(&program.path);
        command.arg("--config").arg(&settings).args(resumable_arguments(&file("improve.running"), arguments(config, order))?);
        command.stdin(Stdio::null()).stdout(open("improve.json")?).stderr(open("improve.log")?);
        restrain(&mut command, config.nice);
        let (sender, started) = std::sync::mpsc::channel();
        let (end_sender, ended) = oneshot::channel();
        // The parent-death signal is sent when the thread that started the child ends, so this thread waits for the child.
        std::thread::Builder::new().name("improvement".into()).spawn(move || match command.spawn() {
            Err(error) => drop(sender.send(Err(error))),
            Ok(mut child) => {
                drop(sender.send(Ok(child.id())));
                drop(end_sender.send(child.wait()));
            }
        })?;
        let process = started.recv().ok().context("the improvement did not start")?.context("the improvement cannot be started")?;
        Ok(Self { process, ended, directory: directory.clone(), stopped: false, quiet: 0 })
    }

    /// Returns the process's id.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// Stops the process at once if the machine is busy, and continues it after some consecutive checks without high load. Returns whether
    /// it is stopped.
    pub(super) fn pause(&mut self, busy: bool) -> bool {
        self.quiet = if busy { 0 } else { self.quiet + 1 };
        if busy && !self.stopped {
            self.signal(libc::SIGSTOP);
            self.stopped = true;
        } else if self.stopped && self.quiet >= QUIET_CHECKS {
            self.signal(libc::SIGCONT);
            self.stopped = false;
        }
        self.stopped
    }

    /// Waits for the process to end.
    pub(super) async fn ended(&mut self) -> End {
        let status = (&mut self.ended).await;
        let _ = std::fs::remove_file(self.directory.join("improve.running"));
        let read = |name: &str| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let report = serde_json::from_str(read("improve.json").trim()).ok();
        match status {
            Ok(Ok(status)) if status.success() => End { done: true, said: None, report },
            status => {
                let log = read("improve.log");
                let from = log.char_indices().map(|(at, _)| at).find(|at| log.len() - at <= LOG_TAIL).unwrap_or(0);
                let how = status.map_or_else(|error| error.to_string(), |status| status.map_or_else(|e| e.to_string(), |s| s.to_string()));
                End { done: false, said: Some(format!("{how}: {}", log[from..].trim())), report }
            }
        }
    }

    /// Ends the process: with SIGTERM first, and with SIGKILL if it does not end in time.
    pub(super) async fn end(mut self) -> End {
        self.signal(libc::SIGTERM);
        self.signal(libc::SIGCONT);
        if tokio::time::timeout(END_TIMEOUT, &mut self.ended).await.is_err() {
            self.signal(libc::SIGKILL);
        }
        End { done: false, said: Some("the daemon ended; the next run goes on from there".into()), report: None }
    }

    fn signal(&self, signal: libc::c_int) {
        if let Ok(group) = libc::pid_t::try_from(self.process) {
            // SAFETY: killpg takes two numbers and touches no memory of this process; the leader of the group is a child that a thread here waits for.
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

/// Returns the arguments that the process is started with, and records them in the file `running` while it runs. An interrupted run is resumed with
/// its own arguments, whatever is wanted now, because a run cannot change its settings.
fn resumable_arguments(running: &Path, wanted: Vec<String>) -> Result<Vec<String>> {
    let interrupted = std::fs::read_to_string(running).ok();
    let before: Option<Vec<String>> = interrupted.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut arguments = before.unwrap_or_else(|| wanted.clone());
    if arguments != wanted {
        tracing::info!(?arguments, ?wanted, "the run that was cut off is finished first");
    }
    std::fs::write(running, serde_json::to_string(&arguments)?).with_context(|| format!("{} cannot be written", running.display()))?;
    arguments.extend(interrupted.map(|_| "--resume".to_owned()));
    Ok(arguments)
}

/// Returns the command line of `milepost improve` for an order.
fn arguments(config: &ImproveInDaemon, order: &Order) -> Vec<String> {
    let words = ["improve", "--json", "--suite", order.suite.word(), "--environment", config.environment.word()];
    let mut all: Vec<String> = words.map(str::to_owned).into();
    all.extend(["--rounds".into(), order.rounds.to_string(), "--remeasure".into(), config.remeasure.to_string()]);
    all.extend(order.recipe.into_iter().flat_map(|recipe| ["--recipe".to_owned(), recipe.word().to_owned()]));
    all
}

/// Gives a process a group of its own and a low priority, and lets it end with the daemon.
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
    use super::*;
    use crate::config::Recipe;
    use crate::daemon::config::LearnFrom;

    #[test]
    fn an_interrupted_run_is_resumed_with_its_own_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let running = directory.path().join("improve.running");
        let wanted = |recipe, rounds| {
            let order = Order { reason: "a test".into(), recipe: Some(recipe), suite: LearnFrom::Own, rounds };
            arguments(&ImproveInDaemon::default(), &order)
        };
        let first = wanted(Recipe::Outcome, 2);
        assert_eq!(resumable_arguments(&running, first.clone()).unwrap(), first);
        let resumed = [&first[..], &["--resume".to_owned()]].concat();
        for _ in 0..2 {
            assert_eq!(resumable_arguments(&running, wanted(Recipe::Successes, 1)).unwrap(), resumed);
        }
        std::fs::remove_file(&running).unwrap();
        assert_eq!(resumable_arguments(&running, wanted(Recipe::Successes, 1)).unwrap(), wanted(Recipe::Successes, 1));
    }
}
