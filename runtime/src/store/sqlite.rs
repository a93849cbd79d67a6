//! The SQLite store: one database file in WAL mode, with the screenshots as files beside it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::codec::{pack_f32, pack_u32};
use super::reclaim::{free_bytes, with_auto_vacuum};
use super::transaction::WriteTransaction;
use super::{EpisodeStore, EpisodeSummary, Pruned, TrainingQuery, hosts, migrations, prune};
use crate::call::Call;
use crate::episode::{Episode, Step, Stop};
use crate::error::{Error, Result};
use crate::grammar::Grammar;
use crate::plan::Plan;

/// The schema's migrations: version, description and SQL. Existing databases hold their checksums, so none may change.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "episodes", include_str!("../../migrations/0001_episodes.sql")),
    (2, "quarantine", include_str!("../../migrations/0002_quarantine.sql")),
];

/// Selects the episodes that may be trained on if no host is in quarantine. A task without a source is a user's own, whose outcome was
/// verified; it counts as a training task.
const TRAINABLE: &str = "SELECT id FROM episodes \
    WHERE success IS NOT NULL AND ended_at IS NOT NULL AND stop_kind NOT IN ('failed', 'cancelled', 'needs_approval') \
    AND coalesce(json_extract(task, '$.source.split'), 'train') = 'train' AND coalesce(json_extract(task, '$.source.held_out'), 0) = 0 \
    AND (?1 IS NULL OR generation = ?1) AND (?2 IS NULL OR started_at >= ?2) \
    AND (?3 IS NULL OR (json_extract(task, '$.source') IS NOT NULL) = ?3) ORDER BY started_at, id";

/// Stores episodes in `DIRECTORY/episodes.db` and screenshots in `DIRECTORY/screenshots/EPISODE/TURN.png`.
pub struct SqliteStore {
    pub(super) pool: SqlitePool,
    directory: PathBuf,
}

impl SqliteStore {
    /// Opens the store in a directory, or creates it, and brings its schema up to date.
    ///
    /// # Errors
    /// The directory cannot be created or written, or the database belongs to a newer version.
    pub async fn open(directory: &Path) -> Result<Self> {
        let file = directory.join("episodes.db");
        let fail = |reason: String| Error::Store { path: file.display().to_string(), reason };
        std::fs::create_dir_all(directory).map_err(|error| {
            fail(format!("the directory cannot be made: {error}; set `episodes.directory` to a place that can be written"))
        })?;
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(with_auto_vacuum(options, &file))
            .await
            .map_err(|error| fail(format!("it cannot be opened: {error}; check its permissions and the space on its disk")))?;
        migrations::migrator(&MIGRATIONS).run(&pool).await.map_err(|error| {
            fail(format!("its schema cannot be brought up to date: {error}; it may belong to a newer version of milepost"))
        })?;
        Ok(Self { pool, directory: directory.to_owned() })
    }

    /// Closes the store and waits until its files are complete, so that they can be copied or moved. A store that is dropped closes some
    /// time later.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Returns the ids of the newest episodes with this goal whose outcome was verified as a success, at most `limit`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn successes(&self, goal: &str, limit: u32) -> Result<Vec<String>> {
        sqlx::query_scalar("SELECT id FROM episodes WHERE success = 1 AND goal = ? ORDER BY started_at DESC, id DESC LIMIT ?")
            .bind(goal)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))
    }

    /// Returns the directory of the store.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Turns a database error into one that says what to do.
    pub(super) fn error(&self, error: sqlx::Error) -> Error {
        let text = error.to_string();
        let fix = match text.contains("full") || text.contains("I/O") {
            true => {
                "the disk is full or failing: free some space, or prune with `milepost episodes prune`; what was recorded so far is safe"
            }
            false => "what was recorded so far is safe",
        };
        Error::Store { path: self.directory.join("episodes.db").display().to_string(), reason: format!("{text}; {fix}") }
    }

    /// Makes the error about a stored value that cannot be parsed.
    pub(super) fn corrupt(&self, what: &str, reason: impl std::fmt::Display) -> Error {
        Error::Store {
            path: self.directory.join("episodes.db").display().to_string(),
            reason: format!("{what} cannot be read: {reason}; the episode was written by another version or the file is damaged"),
        }
    }

    /// Inserts a call with its grammar.
    async fn insert_call(&self, tx: &mut WriteTransaction, episode: &str, turn: Option<u32>, in_step: bool, call: &Call) -> Result<()> {
        let hash = call.grammar.as_ref().map(Grammar::hash);
        if let (Some(grammar), Some(hash)) = (&call.grammar, &hash) {
            sqlx::query("INSERT OR IGNORE INTO grammars (hash, text) VALUES (?, ?)")
                .bind(hash)
                .bind(&grammar.0)
                .execute(tx.connection())
                .await
                .map_err(|error| self.error(error))?;
        }
        sqlx::query(
            "INSERT INTO calls (episode_id, turn, in_step, role, prompt_ids, completion_ids, spans, grammar, logprobs, free_logprobs, \
             temperature, seed, generation, latency_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(episode)
        .bind(turn)
        .bind(in_step)
        .bind(call.role.word())
        .bind(pack_u32(&call.prompt_ids))
        .bind(pack_u32(&call.completion_ids))
        .bind(to_json(&call.spans))
        .bind(hash)
        .bind(pack_f32(&call.logprobs))
        .bind(pack_f32(&call.free_logprobs))
        .bind(call.temperature)
        .bind(call.seed.cast_signed())
        .bind(&call.generation)
        .bind(call.latency_ms)
        .execute(tx.connection())
        .await
        .map(|_| ())
        .map_err(|error| self.error(error))
    }
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Returns the stored name of an enum's variant.
fn word<T: Serialize>(value: &T) -> String {
    to_json(value).trim_matches('"').to_owned()
}

#[async_trait]
impl EpisodeStore for SqliteStore {
    async fn begin(&self, episode: &Episode) -> Result<()> {
        sqlx::query("INSERT INTO episodes (id, goal, task, policy, generation, started_at) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(&episode.id)
            .bind(&episode.task.goal)
            .bind(to_json(&episode.task))
            .bind(&episode.policy)
            .bind(&episode.generation)
            .bind(episode.started_at.to_rfc3339())
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|error| self.error(error))
    }

    async fn plan(&self, episode: &str, plan: &Plan) -> Result<()> {
        let mut tx = WriteTransaction::begin(&self.pool).await.map_err(|error| self.error(error))?;
        sqlx::query("INSERT OR REPLACE INTO plans (episode_id, version, cursor) VALUES (?, ?, ?)")
            .bind(episode)
            .bind(plan.version)
            .bind(i64::try_from(plan.cursor).unwrap_or(i64::MAX))
            .execute(tx.connection())
            .await
            .map_err(|error| self.error(error))?;
        for (position, step) in plan.steps.iter().enumerate() {
            sqlx::query(
                "INSERT OR REPLACE INTO milestones (episode_id, version, position, step_text, step_status, executed_at, text, check_text, \
                 verdict, decided_by, reached_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(episode)
            .bind(plan.version)
            .bind(i64::try_from(position).unwrap_or(i64::MAX))
            .bind(&step.text)
            .bind(word(&step.status))
            .bind(step.executed_at)
            .bind(&step.milestone.text)
            .bind(step.milestone.check.as_ref().map(ToString::to_string))
            .bind(word(&step.milestone.verdict))
            .bind(step.milestone.by.as_ref().map(word))
            .bind(step.milestone.at)
            .execute(tx.connection())
            .await
            .map_err(|error| self.error(error))?;
        }
        tx.commit().await.map_err(|error| self.error(error))
    }

    async fn step(&self, episode: &str, step: &Step) -> Result<()> {
        let mut tx = WriteTransaction::begin(&self.pool).await.map_err(|error| self.error(error))?;
        let bare = Step { calls: Vec::new(), ..step.clone() };
        sqlx::query("INSERT INTO steps (episode_id, turn, action, ok, error, step, screenshot) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(episode)
            .bind(step.turn)
            .bind(step.action.to_string())
            .bind(step.outcome.ok)
            .bind(&step.outcome.error)
            .bind(to_json(&bare))
            .bind(&step.screenshot)
            .execute(tx.connection())
            .await
            .map_err(|error| self.error(error))?;
        for call in &step.calls {
            self.insert_call(&mut tx, episode, Some(step.turn), true, call).await?;
        }
        tx.commit().await.map_err(|error| self.error(error))
    }

    async fn call(&self, episode: &str, turn: Option<u32>, call: &Call) -> Result<()> {
        let mut tx = WriteTransaction::begin(&self.pool).await.map_err(|error| self.error(error))?;
        self.insert_call(&mut tx, episode, turn, false, call).await?;
        tx.commit().await.map_err(|error| self.error(error))
    }

    async fn screenshot(&self, episode: &str, turn: u32, png: &[u8]) -> Result<String> {
        let relative = format!("screenshots/{episode}/{turn:03}.png");
        let path = self.directory.join(&relative);
        let fail = |error: std::io::Error| Error::Store {
            path: path.display().to_string(),
            reason: format!("the screenshot cannot be written: {error}; free some space or set `episodes.screenshots: off`"),
        };
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(fail)?;
        }
        tokio::fs::write(&path, png).await.map_err(fail)?;
        Ok(relative)
    }

    async fn end(&self, episode: &Episode) -> Result<()> {
        sqlx::query(
            "UPDATE episodes SET ended_at = ?, stop_kind = ?, stop_reason = ?, answer = ?, last_observation = ?, success = ? WHERE id = ?",
        )
        .bind(episode.ended_at.map(|time| time.to_rfc3339()))
        .bind(episode.stop.as_ref().map(Stop::word))
        .bind(episode.stop.as_ref().and_then(Stop::reason))
        .bind(&episode.answer)
        .bind(episode.last_observation.as_ref().map(to_json))
        .bind(episode.success)
        .bind(&episode.id)
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(|error| self.error(error))
    }

    async fn set_success(&self, episode: &str, success: Option<bool>) -> Result<()> {
        sqlx::query("UPDATE episodes SET success = ? WHERE id = ?")
            .bind(success)
            .bind(episode)
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|error| self.error(error))
    }

    async fn load(&self, id: &str) -> Result<Option<Episode>> {
        self.load_episode(id).await
    }

    async fn list(&self, limit: u32) -> Result<Vec<EpisodeSummary>> {
        self.load_summaries(limit).await
    }

    async fn trainable(&self, query: &TrainingQuery) -> Result<Vec<String>> {
        let rows = sqlx::query(TRAINABLE)
            .bind(&query.generation)
            .bind(query.since.map(|time| time.to_rfc3339()))
            .bind(query.from_suite)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        self.without_quarantined(rows.iter().map(|row| row.get("id")).collect()).await
    }

    async fn quarantine(&self, host: &str, reason: &str) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO quarantined_hosts (host, reason, since) VALUES (?, ?, ?)")
            .bind(hosts::normalized(host))
            .bind(reason)
            .bind(Utc::now().to_rfc3339())
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|error| self.error(error))
    }

    async fn prune(&self, before: DateTime<Utc>) -> Result<Pruned> {
        prune::prune(&self.pool, &self.directory, before, || free_bytes(&self.directory)).await.map_err(|error| self.error(error))
    }
}
