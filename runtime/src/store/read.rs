//! Reading episodes from the SQLite store.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::EpisodeSummary;
use super::codec::{unpack_f32, unpack_u32};
use super::sqlite::SqliteStore;
use crate::call::{Call, Role};
use crate::check::Check;
use crate::episode::{Episode, Step, Stop};
use crate::error::{Error, Result};
use crate::grammar::Grammar;
use crate::plan::{Milestone, Plan, PlanStep};

impl SqliteStore {
    /// Reads a whole episode; `None` if no episode, or more than one, has an id that begins with `id`.
    pub(super) async fn load_episode(&self, id: &str) -> Result<Option<Episode>> {
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

    /// Reads an episode with everything that belongs to it.
    async fn read_episode(&self, row: &SqliteRow) -> Result<Episode> {
        let id: String = row.get("id");
        let (steps, calls) = self.load_steps(&id).await?;
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
            stop: self.read_stop(row)?,
            answer: row.get("answer"),
            last_observation: row.get::<Option<String>, _>("last_observation").map(|text| self.json("the last page", &text)).transpose()?,
            success: row.get("success"),
        })
    }

    /// Reads the newest episodes of a listing.
    pub(super) async fn load_summaries(&self, limit: u32) -> Result<Vec<EpisodeSummary>> {
        let rows = sqlx::query(
            "SELECT episodes.*, (SELECT count(*) FROM steps WHERE episode_id = episodes.id) AS steps FROM episodes ORDER BY started_at DESC, id DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.error(error))?;
        let summary = |row: &SqliteRow| EpisodeSummary {
            id: row.get("id"),
            goal: row.get("goal"),
            policy: row.get("policy"),
            generation: row.get("generation"),
            started_at: time(row.get("started_at")),
            ended_at: row.get::<Option<String>, _>("ended_at").as_deref().map(time),
            stop: row.get("stop_kind"),
            steps: row.get("steps"),
            success: row.get("success"),
        };
        Ok(rows.iter().map(summary).collect())
    }

    /// Reads the steps of an episode with their calls, and the calls outside the steps.
    async fn load_steps(&self, id: &str) -> Result<(Vec<Step>, Vec<Call>)> {
        let rows = sqlx::query("SELECT turn, step FROM steps WHERE episode_id = ? ORDER BY turn")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        let mut steps: Vec<Step> = rows.iter().map(|row| self.json("a step", row.get("step"))).collect::<Result<_>>()?;
        let rows = sqlx::query(
            "SELECT calls.*, grammars.text FROM calls LEFT JOIN grammars ON grammars.hash = calls.grammar WHERE episode_id = ? ORDER BY id",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.error(error))?;
        let mut calls = Vec::new();
        for row in &rows {
            let call = self.read_call(row)?;
            let turn: Option<u32> = row.get("turn");
            match steps.iter_mut().find(|step| row.get::<bool, _>("in_step") && Some(step.turn) == turn) {
                Some(step) => step.calls.push(call),
                None => calls.push(call),
            }
        }
        Ok((steps, calls))
    }

    fn read_stop(&self, row: &SqliteRow) -> Result<Option<Stop>> {
        let Some(kind) = row.get::<Option<String>, _>("stop_kind") else { return Ok(None) };
        let value = match row.get::<Option<String>, _>("stop_reason") {
            Some(reason) => serde_json::json!({ "kind": kind, "reason": reason }),
            None => serde_json::json!({ "kind": kind }),
        };
        serde_json::from_value(value).map(Some).map_err(|error| self.corrupt("the stop reason", error))
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
            check: row.get::<Option<String>, _>("check_text").map(|text| Check::parse(&text)).transpose()?,
            verdict: self.json("a verdict", &quoted(row.get("verdict")))?,
            by: row.get::<Option<String>, _>("decided_by").map(|by| self.json("a verdict's source", &quoted(by))).transpose()?,
            at: row.get("reached_at"),
        };
        let status = self.json("a plan step's status", &quoted(row.get("step_status")))?;
        Ok(PlanStep { text: row.get("step_text"), milestone, status, executed_at: row.get("executed_at") })
    }

    fn json<T: DeserializeOwned>(&self, what: &str, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| self.corrupt(what, error))
    }
}

fn time(text: &str) -> DateTime<Utc> {
    DateTime::from_str(text).unwrap_or(DateTime::UNIX_EPOCH)
}
