//! Reads, which run concurrently with the writer: tasks, events and figures.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, time};
use crate::broadcast::Scope;
use crate::error::{Error, Result};
use crate::event::TaskEvent;
use crate::listing::{TaskFilter, TaskPage};
use crate::record::TaskRecord;
use crate::state::TaskState;
use crate::stats::ProfileLease;

impl Store {
    fn task_of(&self, row: &SqliteRow) -> Result<TaskRecord> {
        serde_json::from_str(row.get("record")).map_err(|error| self.corrupt("a task", error))
    }

    fn event_of(&self, row: &SqliteRow) -> Result<TaskEvent> {
        Ok(TaskEvent {
            position: row.get::<i64, _>("position").cast_unsigned(),
            task: row.get("task"),
            seq: row.get::<i64, _>("seq").cast_unsigned(),
            at: time(row.get("at")),
            kind: serde_json::from_str(row.get("kind")).map_err(|error| self.corrupt("an event", error))?,
        })
    }

    /// Returns the record of a task.
    pub(crate) async fn get(&self, id: &str) -> Result<TaskRecord> {
        let row = sqlx::query("SELECT record FROM tasks WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        self.task_of(&row.ok_or_else(|| Error::NotFound(id.to_owned()))?)
    }

    /// Returns a page of tasks, newest first; a cursor is the rank of the last task of the page before.
    pub(crate) async fn list(&self, filter: &TaskFilter, cursor: Option<&str>, limit: u32) -> Result<TaskPage> {
        let below = match cursor.map(str::parse::<i64>).transpose() {
            Ok(below) => below.unwrap_or(i64::MAX),
            Err(_) => return Err(Error::Invalid { field: "cursor", reason: "it is none of ours; use `next` of the page before".into() }),
        };
        let rows = sqlx::query(
            "SELECT rank, record FROM tasks WHERE rank < ?1 AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR caller = ?3) \
             ORDER BY rank DESC LIMIT ?4",
        )
        .bind(below)
        .bind(filter.state.map(TaskState::word))
        .bind(&filter.caller)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(&error))?;
        let shown = rows.len().min(limit as usize);
        let next = (rows.len() > shown && shown > 0).then(|| rows[shown - 1].get::<i64, _>("rank").to_string());
        Ok(TaskPage { tasks: rows[..shown].iter().map(|row| self.task_of(row)).collect::<Result<_>>()?, next })
    }

    /// Returns the events of a scope after a number, in order, at most `limit`.
    pub(crate) async fn events(&self, scope: &Scope, after: u64, limit: u32) -> Result<Vec<TaskEvent>> {
        let query = match scope {
            Scope::Task(id) => sqlx::query("SELECT * FROM events WHERE task = ? AND seq > ? ORDER BY seq LIMIT ?").bind(id.clone()),
            Scope::All => sqlx::query("SELECT * FROM events WHERE position > ? ORDER BY position LIMIT ?"),
        };
        let rows = query
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        rows.iter().map(|row| self.event_of(row)).collect()
    }

    /// Returns the messages to a task's agent, oldest first.
    pub(crate) async fn messages(&self, id: &str) -> Result<Vec<String>> {
        let query = "SELECT json_extract(kind, '$.data.text') AS text FROM events \
            WHERE task = ? AND json_extract(kind, '$.kind') = 'message' ORDER BY seq";
        let rows = sqlx::query(query).bind(id).fetch_all(&self.readers).await.map_err(|error| self.error(&error))?;
        Ok(rows.iter().map(|row| row.get("text")).collect())
    }

    /// Returns the last events of all tasks, oldest first, at most `limit`.
    pub(crate) async fn recent_events(&self, limit: u32) -> Result<Vec<TaskEvent>> {
        let rows = sqlx::query("SELECT * FROM events ORDER BY position DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        rows.iter().rev().map(|row| self.event_of(row)).collect()
    }

    /// Counts the tasks in each state.
    pub(crate) async fn count_by_state(&self) -> Result<BTreeMap<TaskState, u64>> {
        let rows = sqlx::query("SELECT state, count(*) AS n FROM tasks GROUP BY state")
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        let mut counts: BTreeMap<_, _> = TaskState::ALL.into_iter().map(|state| (state, 0)).collect();
        for row in rows {
            let word: String = row.get("state");
            let state = TaskState::of_word(&word).ok_or_else(|| self.corrupt("a task's state", &word))?;
            counts.insert(state, row.get::<i64, _>("n").cast_unsigned());
        }
        Ok(counts)
    }

    /// Returns when the oldest queued task was submitted.
    pub(crate) async fn oldest_queued(&self) -> Result<Option<DateTime<Utc>>> {
        self.query_time("SELECT min(created_at) AS at FROM tasks WHERE state = 'queued'").await
    }

    /// Returns the next time at which the dispatcher must check the queue even if no task changes, because a waiting time or a deadline
    /// ends.
    pub(crate) async fn next_queue_time(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let deadline = "SELECT min(deadline) AS at FROM tasks WHERE state IN ('queued', 'interrupted')";
        let wait = "SELECT min(not_before) AS at FROM tasks WHERE state = 'queued' AND not_before > ?1";
        let wait = sqlx::query(wait).bind(super::ms(now)).fetch_one(&self.readers).await.map_err(|error| self.error(&error))?;
        let (wait, deadline) = (wait.get::<Option<i64>, _>("at").map(time), self.query_time(deadline).await?);
        Ok(wait.into_iter().chain(deadline).min())
    }

    /// Runs a query for a single time in the column `at`.
    pub(super) async fn query_time(&self, query: &'static str) -> Result<Option<DateTime<Utc>>> {
        let row = sqlx::query(query).fetch_one(&self.readers).await.map_err(|error| self.error(&error))?;
        Ok(row.get::<Option<i64>, _>("at").map(time))
    }

    /// Returns the named browser profiles in use.
    pub(crate) async fn profiles(&self) -> Result<Vec<ProfileLease>> {
        let query = "SELECT profile, id FROM tasks WHERE profile IS NOT NULL AND state IN ('running', 'needs_approval') ORDER BY profile";
        let rows = sqlx::query(query).fetch_all(&self.readers).await.map_err(|error| self.error(&error))?;
        Ok(rows.iter().map(|row| ProfileLease { profile: row.get("profile"), task: row.get("id") }).collect())
    }

    /// Returns the number of queued tasks, without a query.
    pub(crate) fn queued(&self) -> u64 {
        u64::try_from(self.queued.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Counts the queued tasks when the store is opened.
    pub(super) async fn initialise_queued(&self) -> Result<()> {
        let queued = self.count_by_state().await?[&TaskState::Queued];
        self.queued.store(queued.cast_signed(), Ordering::Relaxed);
        Ok(())
    }
}
