//! The outbox: the webhooks still to be delivered.

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{Store, ms};
use crate::error::Result;

/// A webhook in the outbox.
pub(crate) struct OutboxEntry {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) body: String,
    /// Number of failed attempts so far.
    pub(crate) attempts: u32,
}

impl Store {
    /// Returns the webhooks that are due, oldest first, at most `limit`.
    pub(crate) async fn due_webhooks(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<OutboxEntry>> {
        let rows = sqlx::query("SELECT id, url, body, attempts FROM outbox WHERE next_at <= ? ORDER BY next_at, id LIMIT ?")
            .bind(ms(now))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        Ok(rows
            .iter()
            .map(|row| OutboxEntry { id: row.get("id"), url: row.get("url"), body: row.get("body"), attempts: row.get("attempts") })
            .collect())
    }

    /// Returns the time at which the next webhook is due.
    pub(crate) async fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        self.query_time("SELECT min(next_at) AS at FROM outbox").await
    }

    /// Counts the webhooks that are still to be delivered.
    pub(crate) async fn count_undelivered(&self) -> Result<u64> {
        let query = "SELECT count(*) AS n FROM outbox WHERE next_at IS NOT NULL";
        let row = sqlx::query(query).fetch_one(&self.readers).await.map_err(|error| self.error(&error))?;
        Ok(row.get::<i64, _>("n").cast_unsigned())
    }

    /// Removes a webhook that was delivered.
    pub(crate) async fn remove_delivered(&self, id: &str) -> Result<()> {
        let _writing = self.write_lock.lock().await;
        sqlx::query("DELETE FROM outbox WHERE id = ?")
            .bind(id)
            .execute(&self.writer)
            .await
            .map(|_| ())
            .map_err(|error| self.write_error(&error))
    }

    /// Records a failed attempt; the webhook is attempted again at `next`, or given up if that is `None`.
    pub(crate) async fn record_failed_attempt(&self, id: &str, error: &str, next: Option<DateTime<Utc>>) -> Result<()> {
        let _writing = self.write_lock.lock().await;
        sqlx::query("UPDATE outbox SET attempts = attempts + 1, next_at = ?, error = ? WHERE id = ?")
            .bind(next.map(ms))
            .bind(error)
            .bind(id)
            .execute(&self.writer)
            .await
            .map(|_| ())
            .map_err(|error| self.write_error(&error))
    }
}
