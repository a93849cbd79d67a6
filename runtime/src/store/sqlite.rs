//! The SQLite store: one database file in WAL mode, screenshots as files beside it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, Sqlite, Transaction};

use super::codec::{pack_f32, pack_u32, unpack_f32, unpack_u32};
use super::{EpisodeStore, EpisodeSummary, Pruned, TrainingQuery, hosts};
use crate::call::{Call, Role};
use crate::episode::{Episode, Step, Stop};
use crate::error::{Error, Result};
use crate::grammar::Grammar;
use crate::plan::{Milestone, Plan, PlanStep};

/// What may enter training where no host is in quarantine. A task without a source is a user's own, whose outcome somebody verified.
const TRAINABLE: &str = "SELECT id FROM episodes \
    WHERE success IS NOT NULL AND ended_at IS NOT NULL AND stop_kind NOT IN ('failed', 'cancelled', 'needs_approval') \
    AND coalesce(json_extract(task, '$.source.split'), 'train') = 'train' AND coalesce(json_extract(task, '$.source.held_out'), 0) = 0 \
    AND (?1 IS NULL OR generation = ?1) AND (?2 IS NULL OR started_at >= ?2) \
    AND (?3 IS NULL OR (json_extract(task, '$.source') IS NOT NULL) = ?3) ORDER BY started_at, id";

/// Episodes in `DIRECTORY/episodes.db`, screenshots in `DIRECTORY/screenshots/EPISODE/TURN.png`.
pub struct SqliteStore {
    pub(super) pool: SqlitePool,
    directory: PathBuf,
}

impl SqliteStore {
    /// Opens (or makes) the store in a directory and brings its schema up to date.
    ///
    /// # Errors
    /// A directory that cannot be made or written, or a database of a newer version.
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
            .connect_with(options)
            .await
            .map_err(|error| fail(format!("it cannot be opened: {error}; check its permissions and the space on its disk")))?;
        sqlx::migrate!("./migrations").run(&pool).await.map_err(|error| {
            fail(format!("its schema cannot be brought up to date: {error}; it may belong to a newer version of milepost"))
        })?;
        Ok(Self { pool, directory: directory.to_owned() })
    }

    /// Closes the store and waits until its files are whole and at rest, to be copied or moved; a store that is dropped closes some time later.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Ids of the newest episodes with this goal whose outcome was verified as good, at most so many.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn successes(&self, goal: &str, limit: u32) -> Result<Vec<String>> {
        sqlx::query_scalar("SELECT id FROM episodes WHERE success = 1 AND goal = ? ORDER BY started_at DESC, id DESC LIMIT ?")
            .bind(goal)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))
    }

    /// The directory of the store.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

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

    pub(super) fn corrupt(&self, what: &str, reason: impl std::fmt::Display) -> Error {
        Error::Store {
            path: self.directory.join("episodes.db").display().to_string(),
            reason: format!("{what} cannot be read: {reason}; the episode was written by another version or the file is damaged"),
        }
    }

    fn json<T: DeserializeOwned>(&self, what: &str, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| self.corrupt(what, error))
    }

    async fn insert_call(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        episode: &str,
        turn: Option<u32>,
        in_step: bool,
        call: &Call,
    ) -> Result<()> {
        let hash = call.grammar.as_ref().map(Grammar::hash);
        if let (Some(grammar), Some(hash)) = (&call.grammar, &hash) {
            sqlx::query("INSERT OR IGNORE INTO grammars (hash, text) VALUES (?, ?)")
                .bind(hash)
                .bind(&grammar.0)
                .execute(&mut **tx)
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
        .execute(&mut **tx)
        .await
        .map(|_| ())
        .map_err(|error| self.error(error))
    }

    fn read_call(&self, row: &SqliteRow) -> Result<Call> {
        let role: String = row.get("role");
        let role: Role = self.json("a call's role", &format!("\"{role}\""))?;
        Ok(Call {
            role,
            prompt_ids: unpack_u32(row.get("prompt_ids")),
            completion_ids: unpack_u32(row.get("completion_ids")),
            spans: self.json("a call's spans", row.get("spans"))?,
            grammar: row.get::<Option<String>, _>("text").map(Grammar),
            logprobs: unpack_f32(row.get("logprobs")),
            free_logprobs: unpack_f32(row.get("free_logprobs")),
            temperature: row.get("temperature"),
            seed: row.get::<i64, _>("seed").cast_unsigned(),
            generation: row.get("generation"),
            latency_ms: row.get("latency_ms"),
        })
    }

    /// Reads an episode with everything that belongs to it.
    async fn read_episode(&self, row: &SqliteRow) -> Result<Episode> {
        let id: String = row.get("id");
        let steps = sqlx::query("SELECT turn, step FROM steps WHERE episode_id = ? ORDER BY turn")
            .bind(&id)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        let mut steps: Vec<Step> = steps.iter().map(|row| self.json("a step", row.get("step"))).collect::<Result<_>>()?;
        let call_rows = sqlx::query(
            "SELECT calls.*, grammars.text FROM calls LEFT JOIN grammars ON grammars.hash = calls.grammar WHERE episode_id = ? ORDER BY id",
        )
        .bind(&id)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.error(error))?;
        let mut calls = Vec::new();
        for call_row in &call_rows {
            let call = self.read_call(call_row)?;
            let turn: Option<u32> = call_row.get("turn");
            match steps.iter_mut().find(|step| call_row.get::<bool, _>("in_step") && Some(step.turn) == turn) {
                Some(step) => step.calls.push(call),
                None => calls.push(call),
            }
        }
        let stop = row.get::<Option<String>, _>("stop_kind").map(|kind| {
            let reason: Option<String> = row.get("stop_reason");
            let value = match reason {
                Some(reason) => serde_json::json!({ "kind": kind, "reason": reason }),
                None => serde_json::json!({ "kind": kind }),
            };
            serde_json::from_value(value).map_err(|error| self.corrupt("the stop reason", error))
        });
        Ok(Episode {
            plans: self.load_plans(&id).await?,
            id,
            task: self.json("the task", row.get("task"))?,
            policy: row.get("policy"),
            generation: row.get("generation"),
            started_at: time(row.get("started_at")),
            ended_at: row.get::<Option<String>, _>("ended_at").as_deref().map(time),
            steps,
            calls,
            stop: stop.transpose()?,
            answer: row.get("answer"),
            last_observation: row.get::<Option<String>, _>("last_observation").map(|text| self.json("the last page", &text)).transpose()?,
            success: row.get("success"),
        })
    }

    async fn load_plans(&self, id: &str) -> Result<Vec<Plan>> {
        let rows = sqlx::query("SELECT version, cursor FROM plans WHERE episode_id = ? ORDER BY version")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        let mut plans = Vec::with_capacity(rows.len());
        for row in rows {
            let version: u32 = row.get("version");
            let steps = sqlx::query("SELECT * FROM milestones WHERE episode_id = ? AND version = ? ORDER BY position")
                .bind(id)
                .bind(version)
                .fetch_all(&self.pool)
                .await
                .map_err(|error| self.error(error))?;
            let steps = steps.iter().map(|row| self.read_plan_step(row)).collect::<Result<_>>()?;
            plans.push(Plan { version, cursor: row.get::<i64, _>("cursor").try_into().unwrap_or_default(), steps });
        }
        Ok(plans)
    }

    fn read_plan_step(&self, row: &SqliteRow) -> Result<PlanStep> {
        let quoted = |text: String| format!("\"{text}\"");
        let milestone = Milestone {
            text: row.get("text"),
            check: row.get::<Option<String>, _>("check_text").map(|text| crate::check::Check::parse(&text)).transpose()?,
            verdict: self.json("a verdict", &quoted(row.get("verdict")))?,
            by: row.get::<Option<String>, _>("decided_by").map(|by| self.json("a verdict's source", &quoted(by))).transpose()?,
            at: row.get("reached_at"),
        };
        let status = self.json("a plan step's status", &quoted(row.get("step_status")))?;
        Ok(PlanStep { text: row.get("step_text"), milestone, status, executed_at: row.get("executed_at") })
    }
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn word<T: Serialize>(value: &T) -> String {
    to_json(value).trim_matches('"').to_owned()
}

fn time(text: &str) -> DateTime<Utc> {
    DateTime::from_str(text).unwrap_or(DateTime::UNIX_EPOCH)
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
        let mut tx = self.pool.begin().await.map_err(|error| self.error(error))?;
        sqlx::query("INSERT OR REPLACE INTO plans (episode_id, version, cursor) VALUES (?, ?, ?)")
            .bind(episode)
            .bind(plan.version)
            .bind(i64::try_from(plan.cursor).unwrap_or(i64::MAX))
            .execute(&mut *tx)
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
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        }
        tx.commit().await.map_err(|error| self.error(error))
    }

    async fn step(&self, episode: &str, step: &Step) -> Result<()> {
        let mut tx = self.pool.begin().await.map_err(|error| self.error(error))?;
        let bare = Step { calls: Vec::new(), ..step.clone() };
        sqlx::query("INSERT INTO steps (episode_id, turn, action, ok, error, step, screenshot) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(episode)
            .bind(step.turn)
            .bind(step.action.to_string())
            .bind(step.outcome.ok)
            .bind(&step.outcome.error)
            .bind(to_json(&bare))
            .bind(&step.screenshot)
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        for call in &step.calls {
            self.insert_call(&mut tx, episode, Some(step.turn), true, call).await?;
        }
        tx.commit().await.map_err(|error| self.error(error))
    }

    async fn call(&self, episode: &str, turn: Option<u32>, call: &Call) -> Result<()> {
        let mut tx = self.pool.begin().await.map_err(|error| self.error(error))?;
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
        let rows = sqlx::query("SELECT * FROM episodes WHERE substr(id, 1, length(?)) = ? LIMIT 2")
            .bind(id)
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        let [row] = rows.as_slice() else { return Ok(None) };
        self.read_episode(row).await.map(Some).map_err(|error| match error {
            Error::Store { path, reason } => Error::Store { path, reason: format!("episode {}: {reason}", row.get::<String, _>("id")) },
            other => other,
        })
    }

    async fn list(&self, limit: u32) -> Result<Vec<EpisodeSummary>> {
        let rows = sqlx::query(
            "SELECT episodes.*, (SELECT count(*) FROM steps WHERE episode_id = episodes.id) AS steps FROM episodes ORDER BY started_at DESC, id DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.error(error))?;
        Ok(rows
            .iter()
            .map(|row| EpisodeSummary {
                id: row.get("id"),
                goal: row.get("goal"),
                policy: row.get("policy"),
                generation: row.get("generation"),
                started_at: time(row.get("started_at")),
                ended_at: row.get::<Option<String>, _>("ended_at").as_deref().map(time),
                stop: row.get("stop_kind"),
                steps: row.get("steps"),
                success: row.get("success"),
            })
            .collect())
    }

    async fn trainable(&self, query: &TrainingQuery) -> Result<Vec<String>> {
        let rows = sqlx::query(TRAINABLE)
            .bind(&query.generation)
            .bind(query.since.map(|time| time.to_rfc3339()))
            .bind(query.from_suite)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        self.beyond_quarantine(rows.iter().map(|row| row.get("id")).collect()).await
    }

    async fn quarantine(&self, host: &str, reason: &str) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO quarantined_hosts (host, reason, since) VALUES (?, ?, ?)")
            .bind(hosts::spelled(host))
            .bind(reason)
            .bind(Utc::now().to_rfc3339())
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|error| self.error(error))
    }

    async fn prune(&self, before: DateTime<Utc>) -> Result<Pruned> {
        let ids = sqlx::query("DELETE FROM episodes WHERE started_at < ? RETURNING id")
            .bind(before.to_rfc3339())
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        sqlx::query("DELETE FROM grammars WHERE hash NOT IN (SELECT grammar FROM calls WHERE grammar IS NOT NULL)")
            .execute(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        let mut pruned = Pruned { episodes: ids.len() as u64, screenshots: 0 };
        for row in &ids {
            let folder = self.directory.join("screenshots").join(row.get::<String, _>("id"));
            if folder.is_dir() && std::fs::remove_dir_all(&folder).is_ok() {
                pruned.screenshots += 1;
            }
        }
        Ok(pruned)
    }
}
