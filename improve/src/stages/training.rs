//! Training a candidate in a process of its own.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use milepost_learners::files;
use milepost_learners::policy::{PolicyConfig, Report};
use milepost_runtime::AdapterRegistry;
use milepost_runtime::process::die_with_owner;
use milepost_runtime::registry::Status;

use super::{CALLS, CANDIDATE, Outcome, SuiteStages, UPDATE};
use crate::config::TrainingPhase;
use crate::error::{Error, Result, ResultExt};
use crate::rounds::{Failure, Round};
use crate::update::{Rewarded, UpdateRequest};

/// The exit code of a training process that refuses the update itself.
pub const REFUSED: u8 = 1;
/// How long this process waits for its own cancellation after a signal has ended the training process.
const CANCELLATION_DELAY: Duration = Duration::from_secs(1);

impl SuiteStages<'_> {
    /// Returns the last candidate of earlier rounds that was not found to be worse, if the recipe continues from it. A round without a candidate
    /// does not break the chain.
    pub(super) async fn chained(&self, round: usize) -> Result<Option<String>> {
        if !self.config().recipe.chains() {
            return Ok(None);
        }
        for earlier in (1..round).rev() {
            let Ok(id) = std::fs::read_to_string(self.round_directory(earlier).join(CANDIDATE)) else { continue };
            let known = self.registry.get(&id).await?;
            if known.is_some_and(|record| !matches!(record.status, Status::Quarantined | Status::RolledBack)) {
                return Ok(Some(id).filter(|id| *id != self.serving()));
            }
        }
        Ok(None)
    }

    /// Makes the request for the round's update.
    pub(super) async fn request(
        &self,
        round: &Round,
        phase: TrainingPhase,
        chained: Option<String>,
        episodes: Vec<Rewarded>,
    ) -> Result<UpdateRequest> {
        let (generation, parent) = match chained {
            Some(id) => {
                let record = self.registry.get(&id).await?.with_context(|| format!("generation {id} is gone from the registry"))?;
                (record.generation, Some(self.registry.directory(&id)))
            }
            None => {
                let generation = self.model.engine().generation();
                let parent = generation.adapter.as_ref().map(|_| self.registry.directory(&generation.id()));
                (generation, parent)
            }
        };
        let calls = Some(self.round_directory(round.number).join(CALLS)).filter(|calls| calls.is_file());
        Ok(UpdateRequest {
            recipe: self.config().recipe.word().into(),
            base: std::fs::canonicalize(self.settings.weights()?)?,
            parent,
            generation,
            store: self.store.directory().to_owned(),
            roles: phase.roles,
            policy: PolicyConfig { seed: self.config().seed + round.number as u64, ..phase.policy },
            episodes,
            memory: Vec::new(),
            calls,
            critics: (round.number > 1).then(|| self.round_directory(round.number - 1).join(UPDATE).join("critics")),
            out: self.round_directory(round.number).join(UPDATE),
        })
    }

    /// Trains in a child process of low priority, whose log is in the same directory as its results.
    ///
    /// # Errors
    /// The candidate is at fault if there is nothing to learn from, or if the child refuses the update with exit code [`REFUSED`]. Any other end of
    /// the child (a full disk, a panic, a signal) is the run's fault and says nothing about the candidate.
    pub(super) async fn train(&self, request: &UpdateRequest, directory: &Path) -> Outcome<Report> {
        if let Ok(report) = request.report() {
            return Ok(report);
        }
        let no_calls = request.calls.as_ref().is_none_or(|path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0));
        if request.episodes.is_empty() && no_calls {
            return Err(Failure::Candidate("there is nothing to learn from: none of the round's episodes may be trained on".into()));
        }
        let log_file = directory.join("update.log");
        let status = self.run_update(request, directory, &log_file).await?;
        if let Some(signal) = status.signal() {
            let fix = "lower `improve.tasks` or `improve.update.tokens_per_batch`, or make room";
            let problem =
                format!("the update was killed by signal {signal} (9: most likely the memory was full; {fix}); what was collected is kept");
            return Err(Failure::Run(Error::Failed(problem)));
        }
        if status.success() {
            return Ok(request.report()?);
        }
        let log = std::fs::read_to_string(&log_file).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
        let problem = format!("the update ended with {status}: {last}");
        match status.code() == Some(i32::from(REFUSED)) {
            true => Err(Failure::Candidate(problem)),
            false => {
                let problem = format!("{problem} ({} has all of it); what was collected is kept", log_file.display());
                Err(Failure::Run(Error::Failed(problem)))
            }
        }
    }

    /// Runs the training process to its end.
    async fn run_update(&self, request: &UpdateRequest, directory: &Path, log_file: &Path) -> Result<ExitStatus> {
        let file = directory.join("update.json");
        files::replace(&file, &serde_json::to_vec_pretty(request)?)?;
        let out = std::fs::File::create(log_file).with_context(|| format!("{} cannot be written", log_file.display()))?;
        let mut command = tokio::process::Command::new(&self.host.program);
        command.args(["learn", "policy"]).arg(&file).args(["--nice", &self.config().nice.to_string()]);
        if let Some(gib) = self.config().memory_gib {
            command.args(["--memory-gib", &gib.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        // A training process that outlived the run would continue without the updater's lock.
        die_with_owner(command.as_std_mut());
        let mut child = command.spawn().context("the training process did not start")?;
        let status = tokio::select! {
            status = child.wait() => status?,
            () = self.cancel.cancelled() => {
                child.kill().await?;
                return Err(Error::Cancelled);
            }
        };
        // Ctrl-C reaches both processes, and the child may be the first to end.
        let interrupted = matches!(status.signal(), Some(libc::SIGINT | libc::SIGTERM));
        if interrupted && tokio::time::timeout(CANCELLATION_DELAY, self.cancel.cancelled()).await.is_ok() {
            return Err(Error::Cancelled);
        }
        Ok(status)
    }
}
