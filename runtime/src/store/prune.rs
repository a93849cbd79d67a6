//! Removes old episodes with their screenshots, and gives their space back to the disk.

use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::sqlite::SqlitePool;

use super::Pruned;
use super::reclaim::reclaim_within;

/// Removes the episodes of the store in `directory` that started before `before`; `free` reads the free bytes of its disk.
pub(super) async fn prune(
    pool: &SqlitePool,
    directory: &Path,
    before: DateTime<Utc>,
    free: impl FnOnce() -> io::Result<u64>,
) -> sqlx::Result<Pruned> {
    let size = database_bytes(directory);
    let ids = sqlx::query("DELETE FROM episodes WHERE started_at < ? RETURNING id").bind(before.to_rfc3339()).fetch_all(pool).await?;
    sqlx::query("DELETE FROM grammars WHERE hash NOT IN (SELECT grammar FROM calls WHERE grammar IS NOT NULL)").execute(pool).await?;
    let mut pruned = Pruned { episodes: ids.len() as u64, ..Pruned::default() };
    for row in &ids {
        let folder = directory.join("screenshots").join(row.get::<String, _>("id"));
        let bytes = file_bytes(&folder);
        if folder.is_dir() && std::fs::remove_dir_all(&folder).is_ok() {
            pruned.screenshots += 1;
            pruned.screenshot_bytes += bytes;
        }
    }
    // The episodes are removed already, so a failure here is reported and is no error of the prune.
    pruned.not_reclaimed = reclaim_within(pool, free).await.err().map(|reason| reason.to_string());
    pruned.database_bytes = size.saturating_sub(database_bytes(directory));
    Ok(pruned)
}

/// Returns the size of the database in a store's directory with its write-ahead log, in bytes.
fn database_bytes(directory: &Path) -> u64 {
    let size = |name: &str| std::fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    size("episodes.db") + size("episodes.db-wal")
}

/// Returns the size of all files in a directory, in bytes.
fn file_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use chrono::Duration;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::call::{Call, Role};
    use crate::episode::Episode;
    use crate::store::{EpisodeStore, SqliteStore};
    use crate::task::Task;

    /// The size of the large list in each recorded call, in numbers of 4 bytes.
    const TOKENS: u32 = 50_000;

    /// A store with 20 old episodes and one new one, each with a call of 600 kB and a screenshot of 1000 bytes.
    struct Recorded {
        directory: tempfile::TempDir,
        store: SqliteStore,
        kept: String,
    }

    impl Recorded {
        /// Records the episodes in this directory, whose database is created if there is none.
        async fn in_directory(directory: tempfile::TempDir) -> Self {
            let store = SqliteStore::open(directory.path()).await.unwrap();
            let mut kept = String::new();
            for days in (0..=20).rev() {
                let mut episode = Episode::begin(Task::new("x", "http://a.org/").unwrap(), "adaplan", "abc");
                episode.started_at = Utc::now() - Duration::days(days * 100);
                store.begin(&episode).await.unwrap();
                store.call(&episode.id, None, &large_call()).await.unwrap();
                store.screenshot(&episode.id, 0, &[7; 1000]).await.unwrap();
                kept = episode.id;
            }
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&store.pool).await.unwrap();
            assert!(database_bytes(directory.path()) > 12_000_000, "{}", database_bytes(directory.path()));
            Self { directory, store, kept }
        }

        /// Records the episodes in a database that was created without `auto_vacuum`, as earlier versions did.
        async fn in_old_database() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let options = SqliteConnectOptions::new().filename(directory.path().join("episodes.db")).create_if_missing(true);
            let pool = SqlitePool::connect_with(options).await.unwrap();
            sqlx::query("CREATE TABLE of_another_time (id INTEGER)").execute(&pool).await.unwrap();
            pool.close().await;
            Self::in_directory(directory).await
        }

        /// Prunes the old episodes, and checks that they are gone and that nothing else was lost.
        async fn prune(&self, free: impl FnOnce() -> io::Result<u64>) -> Pruned {
            let before = self.kept_episode().await;
            let pruned = prune(&self.store.pool, self.directory.path(), Utc::now() - Duration::days(50), free).await.unwrap();
            assert_eq!(self.kept_episode().await, before);
            let ids: Vec<String> = self.store.list(100).await.unwrap().into_iter().map(|episode| episode.id).collect();
            assert_eq!(ids, std::slice::from_ref(&self.kept));
            assert_eq!(std::fs::read_dir(self.directory.path().join("screenshots")).unwrap().count(), 1);
            let integrity: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&self.store.pool).await.unwrap();
            assert_eq!(integrity, "ok");
            pruned
        }

        async fn kept_episode(&self) -> String {
            serde_json::to_string(&self.store.load(&self.kept).await.unwrap().unwrap()).unwrap()
        }

        /// Checks that a prune removed 20 episodes and gave the space of 12 MB of calls back.
        fn check_reclaimed(&self, pruned: &Pruned) {
            assert_eq!((pruned.episodes, pruned.screenshots, pruned.screenshot_bytes, &pruned.not_reclaimed), (20, 20, 20_000, &None));
            assert!(pruned.database_bytes > 11_000_000 && database_bytes(self.directory.path()) < 1_000_000, "{pruned:?}");
        }
    }

    fn large_call() -> Call {
        let tokens: Vec<u32> = (0..TOKENS).collect();
        Call {
            role: Role::Planner,
            prompt_ids: tokens.clone(),
            completion_ids: tokens.clone(),
            spans: Vec::new(),
            grammar: None,
            logprobs: tokens.iter().map(|token| -(*token as f32)).collect(),
            free_logprobs: Vec::new(),
            temperature: 1.0,
            seed: 7,
            generation: "abc".into(),
            latency_ms: 1.0,
        }
    }

    #[tokio::test]
    async fn a_new_database_shrinks() {
        let recorded = Recorded::in_directory(tempfile::tempdir().unwrap()).await;
        let pruned = recorded.prune(|| panic!("no room is needed")).await;
        recorded.check_reclaimed(&pruned);
    }

    #[tokio::test]
    async fn an_old_database_shrinks() {
        let recorded = Recorded::in_old_database().await;
        let pruned = recorded.prune(|| Ok(u64::MAX)).await;
        recorded.check_reclaimed(&pruned);
    }

    #[tokio::test]
    async fn a_disk_without_room_for_an_old_database_is_reported_until_it_has_room() {
        let recorded = Recorded::in_old_database().await;
        let size = database_bytes(recorded.directory.path());
        let pruned = recorded.prune(|| Ok(1000)).await;
        assert_eq!((pruned.episodes, pruned.screenshots, pruned.screenshot_bytes, pruned.database_bytes), (20, 20, 20_000, 0));
        assert!(pruned.not_reclaimed.as_ref().is_some_and(|reason| reason.contains("1000 free")), "{pruned:?}");
        assert!(database_bytes(recorded.directory.path()) >= size);

        let later = recorded.prune(|| Ok(u64::MAX)).await;
        assert_eq!((later.episodes, later.not_reclaimed.as_ref()), (0, None));
        assert!(later.database_bytes > 11_000_000, "{later:?}");
        let again = recorded.prune(|| panic!("no room is needed any more")).await;
        assert_eq!(again, Pruned::default());
    }
}
