//! The service itself: what protocols call.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use milepost_runtime::EpisodeStore;

use crate::config::ServiceConfig;
use crate::error::Result;
use crate::event::TaskEvent;
use crate::record::{Drained, Filter, Load, Page, ProfileLease, Stats, Submitted, TaskRecord};
use crate::runner::Runner;
use crate::submission::Submission;
use crate::webhook::Deliver;

/// Events as a follower gets them; ends after an error.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Arc<TaskEvent>>> + Send>>;

/// What the service needs from outside.
#[derive(Clone)]
pub struct Ports {
    /// Carries tasks out.
    pub runner: Arc<dyn Runner>,
    /// Where the runner records its episodes: feedback sets their verified outcome.
    pub episodes: Arc<dyn EpisodeStore>,
    /// Delivers webhooks.
    pub deliver: Arc<dyn Deliver>,
}

pub(crate) struct JobState;

/// The service; cheap to clone. When the last clone is dropped, everything stops where it is, as at a crash.
#[derive(Clone)]
pub struct Service {
    inner: Arc<()>,
}

#[expect(unused_variables, clippy::unused_async, reason = "bodies follow")]
impl Service {
    /// Opens (or makes) the service in a directory, takes up what a process that died left, and starts the workers.
    ///
    /// # Errors
    /// A directory that cannot be used or that another process has.
    pub async fn open(directory: &Path, config: ServiceConfig, ports: Ports) -> Result<Self> {
        unreachable!()
    }
    /// Queues a task.
    ///
    /// # Errors
    /// `Invalid`, `KeyReused`, `Full`, `TooMany`, `Draining`.
    pub async fn submit(&self, caller: &str, submission: Submission) -> Result<Submitted> {
        unreachable!()
    }
    /// A task.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, id: &str) -> Result<TaskRecord> {
        unreachable!()
    }
    /// Tasks, newest first, from a cursor on.
    ///
    /// # Errors
    /// `Invalid` for a cursor that is none.
    pub async fn list(&self, filter: &Filter, cursor: Option<&str>, limit: u32) -> Result<Page> {
        unreachable!()
    }
    /// Cancels a task: at once where nobody runs it, else as soon as its runner lets go. Cancelling a cancelled task changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that ended.
    pub async fn cancel(&self, id: &str) -> Result<TaskRecord> {
        unreachable!()
    }
    /// Starts an interrupted task anew, as a new attempt.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn resume(&self, id: &str) -> Result<TaskRecord> {
        unreachable!()
    }
    /// Lets the action be carried out that the task waits with.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn approve(&self, id: &str, note: Option<&str>) -> Result<TaskRecord> {
        unreachable!()
    }
    /// Refuses that action; the run goes on and is told so.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn deny(&self, id: &str, note: Option<&str>) -> Result<TaskRecord> {
        unreachable!()
    }
    /// Says something to the agent.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Conflict` for a task that ended.
    pub async fn message(&self, id: &str, text: &str) -> Result<TaskRecord> {
        unreachable!()
    }
    /// Sets the verified outcome of a finished task's episode, which makes it one that can be learned from.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for a task that has not ended or has no episode.
    pub async fn feedback(&self, id: &str, success: bool, note: Option<&str>) -> Result<TaskRecord> {
        unreachable!()
    }
    /// A task's events after `after_seq`: stored ones, then live ones, each once and in order; ends after `ended`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn events(&self, id: &str, after_seq: u64) -> Result<EventStream> {
        unreachable!()
    }
    /// The last events of all tasks, oldest first.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn recent_events(&self, limit: u32) -> Result<Vec<TaskEvent>> {
        unreachable!()
    }
    /// The events of all tasks after a position, stored and live; never ends by itself.
    pub fn all_events(&self, after_position: u64) -> EventStream {
        unreachable!()
    }
    /// How the service stands.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn stats(&self) -> Result<Stats> {
        unreachable!()
    }
    /// How busy it is, without touching the disk.
    pub fn load(&self) -> Load {
        unreachable!()
    }
    /// The named profiles in use.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn profiles(&self) -> Result<Vec<ProfileLease>> {
        unreachable!()
    }
    /// Starts no task until [`Service::proceed`]; running ones go on.
    pub fn pause(&self) {
        unreachable!()
    }
    /// Starts tasks again.
    pub fn proceed(&self) {
        unreachable!()
    }
    /// The key that webhooks are signed with.
    pub fn webhook_key(&self) -> &[u8] {
        unreachable!()
    }
    /// Takes and starts nothing more, gives what runs until `bound`, and cuts the rest off; nothing is lost.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub async fn drain(&self, bound: Duration) -> Result<Drained> {
        unreachable!()
    }
}
