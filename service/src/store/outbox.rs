//! The outbox: webhooks that are still to be delivered.

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{Store, ms};
use crate::error::Result;

/// A webhook in the outbox.
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) body: String,
    /// Tries so far.
    pub(crate) attempts: u32,
}

impl Store {
    /// What is due, oldest first.
    pub(crate) async fn due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<Letter>> {
        let rows = sqlx::query("SELECT id, url, body, attempts FROM outbox WHERE next_at <= ? ORDER BY next_at, id LIMIT ?")
            .bind(ms(now))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        Ok(rows
            .iter()
            .map(|row| Letter { id: row.get("id"), url: row.get("url"), body: row.get("body"), attempts: row.get("attempts") })
            .collect())
    }

    /// When the next one is due.
    pub(crate) async fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        self.moment("SELECT min(next_at) AS at FROM outbox").await
    }

    /// How many are still to be delivered.
    pub(crate) async fn undelivered(&self) -> Result<u64> {
        let query = "SELECT count(*) AS n FROM outbox WHERE next_at IS NOT NULL";
        let row = sqlx::query(query).fetch_one(&self.readers).await.map_err(|error| self.error(&error))?;
        Ok(row.get::<i64, _>("n").cast_unsigned())
    }

    /// One was delivered.
    pub(crate) async fn delivered(&self, id: &str) -> Result<()> {
        let _turn = self.turn.lock().await;
        sqlx::query("DELETE FROM outbox WHERE id = ?").bind(id).execute(&self.writer).await.map(|_| ()).map_err(|error| self.error(&error))
    }

    /// One was not; it is tried again at `next`, or given up.
    pub(crate) async fn undeliverable(&self, id: &str, error: &str, next: Option<DateTime<Utc>>) -> Result<()> {
        let _turn = self.turn.lock().await;
        sqlx::query("UPDATE outbox SET attempts = attempts + 1, next_at = ?, error = ? WHERE id = ?")
            .bind(next.map(ms))
            .bind(error)
            .bind(id)
            .execute(&self.writer)
            .await
            .map(|_| ())
            .map_err(|error| self.error(&error))
    }
}
