//! Write transactions; their events are published when they are committed.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use milepost_runtime::store::WriteTransaction;
use sqlx::Row;
use tokio::sync::OwnedMutexGuard;

use super::{Store, ms};
use crate::error::{Error, Result};
use crate::event::{EventKind, TaskEvent};
use crate::record::TaskRecord;
use crate::state::TaskState;

/// A write transaction. There is one at a time. [`Tx::finish`] ends it; dropping it rolls it back and closes its connection.
pub(crate) struct Tx<'s> {
    store: &'s Store,
    tx: WriteTransaction,
    /// Events to publish after the commit.
    events: Vec<TaskEvent>,
    /// The last known state of each task that was read or written, by the task's id.
    states: HashMap<String, TaskState>,
    /// By how much the number of queued tasks changes.
    queued: i64,
    _write_lock: OwnedMutexGuard<()>,
}

impl Store {
    /// Begins a write transaction, waiting for the one before it to end.
    pub(crate) async fn begin(&self) -> Result<Tx<'_>> {
        let write_lock = self.write_lock.clone().lock_owned().await;
        let tx = WriteTransaction::begin(&self.writer).await.map_err(|error| self.write_error(&error))?;
        Ok(Tx { store: self, tx, events: Vec::new(), states: HashMap::new(), queued: 0, _write_lock: write_lock })
    }
}

impl Tx<'_> {
    /// Parses a stored record, and remembers the task's state.
    fn parse_task(&mut self, text: &str) -> Result<TaskRecord> {
        let task: TaskRecord = serde_json::from_str(text).map_err(|error| self.store.corrupt("a task", error))?;
        self.states.insert(task.id.clone(), task.state);
        Ok(task)
    }

    /// Returns the record of a task.
    pub(crate) async fn task(&mut self, id: &str) -> Result<TaskRecord> {
        let row = sqlx::query("SELECT record FROM tasks WHERE id = ?")
            .bind(id)
            .fetch_optional(self.tx.connection())
            .await
            .map_err(|error| self.store.write_error(&error))?;
        let row = row.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        self.parse_task(row.get("record"))
    }

    /// Returns the task that has a caller's idempotency key, and the hash of its submission.
    pub(crate) async fn task_by_key(&mut self, caller: &str, key: &str) -> Result<Option<(TaskRecord, String)>> {
        let row = sqlx::query("SELECT record, body_hash FROM tasks WHERE caller = ? AND idempotency_key = ?")
            .bind(caller)
            .bind(key)
            .fetch_optional(self.tx.connection())
            .await
            .map_err(|error| self.store.write_error(&error))?;
        row.map(|row| Ok((self.parse_task(row.get("record"))?, row.get("body_hash")))).transpose()
    }

    /// Counts the queued tasks: of all callers, and of one caller.
    pub(crate) async fn count_queued(&mut self, caller: &str) -> Result<(usize, usize)> {
        let row = sqlx::query("SELECT count(*) AS everyone, coalesce(sum(caller = ?), 0) AS own FROM tasks WHERE state = 'queued'")
            .bind(caller)
            .fetch_one(self.tx.connection())
            .await
            .map_err(|error| self.store.write_error(&error))?;
        let count = |column| usize::try_from(row.get::<i64, _>(column)).unwrap_or_default();
        Ok((count("everyone"), count("own")))
    }

    /// Returns the task to start next: of the queued tasks whose waiting time is over, whose caller has fewer than `per_caller` tasks
    /// running and whose profile is free, the oldest with the highest priority.
    pub(crate) async fn next_to_start(&mut self, per_caller: usize, now: DateTime<Utc>) -> Result<Option<TaskRecord>> {
        let row = sqlx::query(
            "SELECT record FROM tasks AS task WHERE state = 'queued' AND (not_before IS NULL OR not_before <= ?1) \
             AND (SELECT count(*) FROM tasks WHERE caller = task.caller AND state = 'running') < ?2 \
             AND (profile IS NULL OR NOT EXISTS \
                 (SELECT 1 FROM tasks AS held WHERE held.state IN ('running', 'needs_approval') AND held.profile = task.profile)) \
             ORDER BY priority DESC, rank LIMIT 1",
        )
        .bind(ms(now))
        .bind(i64::try_from(per_caller).unwrap_or(i64::MAX))
        .fetch_optional(self.tx.connection())
        .await
        .map_err(|error| self.store.write_error(&error))?;
        row.map(|row| self.parse_task(row.get("record"))).transpose()
    }

    /// Returns all tasks that have a runner, oldest first.
    pub(crate) async fn with_runner(&mut self) -> Result<Vec<TaskRecord>> {
        self.tasks("SELECT record FROM tasks WHERE state IN ('running', 'needs_approval') AND ?1 = ?1 ORDER BY rank", 0).await
    }

    /// Returns the tasks without a runner whose deadline has passed, oldest first.
    pub(crate) async fn overdue(&mut self, now: DateTime<Utc>) -> Result<Vec<TaskRecord>> {
        self.tasks("SELECT record FROM tasks WHERE state IN ('queued', 'interrupted') AND deadline <= ?1 ORDER BY rank", ms(now)).await
    }

    async fn tasks(&mut self, query: &'static str, bound: i64) -> Result<Vec<TaskRecord>> {
        let rows = sqlx::query(query).bind(bound).fetch_all(self.tx.connection()).await.map_err(|error| self.store.write_error(&error))?;
        rows.iter().map(|row| self.parse_task(row.get("record"))).collect()
    }

    /// Inserts a new task; [`Tx::update`] must follow, which writes its record and events.
    pub(crate) async fn insert(&mut self, task: &TaskRecord) -> Result<()> {
        sqlx::query(
            "INSERT INTO tasks (id, caller, idempotency_key, body_hash, state, priority, profile, created_at, record) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
        )
        .bind(&task.id)
        .bind(&task.caller)
        .bind(&task.submission.idempotency_key)
        .bind(task.submission.hash())
        .bind(task.state.word())
        .bind(task.submission.priority)
        .bind(&task.submission.profile)
        .bind(ms(task.created_at))
        .execute(self.tx.connection())
        .await
        .map(|_| ())
        .map_err(|error| self.store.write_error(&error))
    }

    /// Writes a task's record, the events that led to it and the webhooks for these events.
    pub(crate) async fn update(&mut self, task: &mut TaskRecord, kinds: Vec<EventKind>) -> Result<()> {
        for kind in kinds {
            task.last_seq += 1;
            self.enqueue_webhook(task, &kind).await?;
            self.insert_event(task, kind).await?;
        }
        let record = serde_json::to_string(task).map_err(|error| self.store.corrupt("a task", error))?;
        sqlx::query("UPDATE tasks SET state = ?, deadline = ?, not_before = ?, ended_at = ?, record = ? WHERE id = ?")
            .bind(task.state.word())
            .bind(task.deadline.map(ms))
            .bind(task.not_before.map(ms))
            .bind(task.ended_at.map(ms))
            .bind(record)
            .bind(&task.id)
            .execute(self.tx.connection())
            .await
            .map_err(|error| self.store.write_error(&error))?;
        let was = self.states.insert(task.id.clone(), task.state);
        self.queued += i64::from(task.state == TaskState::Queued) - i64::from(was == Some(TaskState::Queued));
        Ok(())
    }

    async fn insert_event(&mut self, task: &TaskRecord, kind: EventKind) -> Result<()> {
        // Rounded to the milliseconds that are stored, so that followers and later readers get the same time.
        let at = super::time(ms(Utc::now()));
        let text = serde_json::to_string(&kind).map_err(|error| self.store.corrupt("an event", error))?;
        let row = sqlx::query("INSERT INTO events (task, seq, at, kind) VALUES (?, ?, ?, ?) RETURNING position")
            .bind(&task.id)
            .bind(task.last_seq.cast_signed())
            .bind(ms(at))
            .bind(text)
            .fetch_one(self.tx.connection())
            .await
            .map_err(|error| self.store.write_error(&error))?;
        let position = row.get::<i64, _>("position").cast_unsigned();
        self.events.push(TaskEvent { position, task: task.id.clone(), seq: task.last_seq, at, kind });
        Ok(())
    }

    /// Adds a webhook to the outbox if the task has a receiver and the event is of a kind that is sent.
    async fn enqueue_webhook(&mut self, task: &TaskRecord, kind: &EventKind) -> Result<()> {
        let Some(url) = &task.submission.webhook else { return Ok(()) };
        if !matches!(kind, EventKind::Ended { .. } | EventKind::Interrupted { .. } | EventKind::ApprovalRequested(_)) {
            return Ok(());
        }
        let id = uuid::Uuid::now_v7().to_string();
        let body = serde_json::json!({ "id": id, "event": kind.word(), "seq": task.last_seq, "task": task }).to_string();
        sqlx::query("INSERT INTO outbox (id, task, url, body, next_at) VALUES (?, ?, ?, ?, ?)")
            .bind(id)
            .bind(&task.id)
            .bind(url.as_str())
            .bind(body)
            .bind(ms(Utc::now()))
            .execute(self.tx.connection())
            .await
            .map(|_| ())
            .map_err(|error| self.store.write_error(&error))
    }

    /// Removes the tasks that ended before a time, with their events and webhooks; returns the number of tasks.
    pub(crate) async fn prune(&mut self, before: DateTime<Utc>) -> Result<u64> {
        let mut removed = 0;
        for query in [
            "DELETE FROM outbox WHERE task IN (SELECT id FROM tasks WHERE ended_at < ?1)",
            "DELETE FROM events WHERE task IN (SELECT id FROM tasks WHERE ended_at < ?1)",
            "DELETE FROM tasks WHERE ended_at < ?1",
        ] {
            let done =
                sqlx::query(query).bind(ms(before)).execute(self.tx.connection()).await.map_err(|error| self.store.write_error(&error))?;
            removed = done.rows_affected();
        }
        Ok(removed)
    }

    /// Writes one page of the database, to see whether it can be written. `user_version` is a number in its header that nothing else uses.
    pub(crate) async fn write_probe(&mut self) -> Result<()> {
        let read = sqlx::query_scalar::<_, i64>("PRAGMA user_version").fetch_one(self.tx.connection()).await;
        let statement = match read.map_err(|error| self.store.write_error(&error))? {
            1 => "PRAGMA user_version = 2",
            _ => "PRAGMA user_version = 1",
        };
        sqlx::query(statement).execute(self.tx.connection()).await.map(|_| ()).map_err(|error| self.store.write_error(&error))
    }

    /// Ends the transaction with the result of its work. It is committed if that is `Ok`, and its events are published after that. If the work was
    /// refused, the transaction is rolled back; if the database failed, its connection is closed.
    pub(crate) async fn finish<T>(self, result: Result<T>) -> Result<T> {
        match result {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) if error.is_of_store() => Err(error),
            Err(error) => match self.tx.rollback().await {
                Ok(()) => Err(error),
                Err(failed) => {
                    tracing::error!(error = %failed, "a transaction cannot be rolled back; its connection is closed");
                    Err(error)
                }
            },
        }
    }

    /// Commits the transaction, then publishes its events.
    pub(crate) async fn commit(self) -> Result<()> {
        self.tx.commit().await.map_err(|error| self.store.write_error(&error))?;
        self.store.queued.fetch_add(self.queued, Ordering::Relaxed);
        self.store.broadcast.publish(self.events);
        Ok(())
    }
}
