//! Quarantine: hosts whose episodes are kept out of training.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use url::Url;

use super::hosts;
use super::sqlite::SqliteStore;
use crate::error::Result;

/// A host whose episodes are kept out of training.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// The host.
    pub host: String,
    /// Why it is in quarantine.
    pub reason: String,
    /// When it was put into quarantine (RFC 3339).
    pub since: String,
}

impl SqliteStore {
    /// Returns the hosts in quarantine, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>> {
        let rows = sqlx::query("SELECT host, reason, since FROM quarantined_hosts ORDER BY since, host").fetch_all(&self.pool).await;
        let one = |row: &SqliteRow| Quarantined { host: row.get("host"), reason: row.get("reason"), since: row.get("since") };
        Ok(rows.map_err(|error| self.error(error))?.iter().map(one).collect())
    }

    /// Takes a host out of quarantine. Returns whether it was in quarantine.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn release(&self, host: &str) -> Result<bool> {
        let (wanted, mut released) = (hosts::normalized(host), false);
        // An older version stored hosts without normalising them.
        for one in self.quarantined().await?.iter().filter(|one| hosts::normalized(&one.host) == wanted) {
            let done = sqlx::query("DELETE FROM quarantined_hosts WHERE host = ?").bind(&one.host).execute(&self.pool).await;
            released |= done.map_err(|error| self.error(error))?.rows_affected() > 0;
        }
        Ok(released)
    }

    /// Drops the episodes that touched a host in quarantine.
    pub(super) async fn without_quarantined(&self, ids: Vec<String>) -> Result<Vec<String>> {
        let quarantined: HashSet<String> = self.quarantined().await?.iter().map(|one| hosts::normalized(&one.host)).collect();
        if quarantined.is_empty() {
            return Ok(ids);
        }
        let mut kept = Vec::with_capacity(ids.len());
        for id in ids {
            if self.hosts_of(&id).await?.is_disjoint(&quarantined) {
                kept.push(id);
            }
        }
        Ok(kept)
    }

    /// Returns the hosts that an episode touched. The last page counts even without a step, because a turn whose output cannot be parsed is
    /// recorded without one.
    async fn hosts_of(&self, id: &str) -> Result<HashSet<String>> {
        let ends = "SELECT json_extract(task, '$.start_url') AS start_url, json_extract(last_observation, '$.url') AS last_url FROM episodes WHERE id = ?";
        let row = sqlx::query(ends).bind(id).fetch_one(&self.pool).await.map_err(|error| self.error(error))?;
        let start = Url::parse(row.get("start_url")).map_err(|error| self.corrupt("the task's address", error))?;
        let last = row.get::<Option<&str>, _>("last_url").and_then(|last| Url::parse(last).ok());
        let mut found: HashSet<String> = last.iter().chain([&start]).filter_map(hosts::host_of).collect();
        let turns = sqlx::query("SELECT json_extract(step, '$.observation.url') AS page, action FROM steps WHERE episode_id = ?")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.error(error))?;
        for turn in &turns {
            let page = turn.get::<Option<&str>, _>("page").unwrap_or_default();
            found.extend(hosts::of_turn(&start, page, turn.get("action")));
        }
        Ok(found)
    }
}
