//! Write transactions on SQLite after which no connection is left in an unknown state.
//!
//! SQLite rolls a transaction back by itself if its disk is full (<https://www.sqlite.org/lang_transaction.html>, section 3). sqlx 0.8 does not
//! notice that: its own ROLLBACK fails, it counts the transaction as open, and from then on each "commit" on this connection only releases a
//! savepoint inside a transaction that is never committed. So plain statements begin and end the transactions here, and a connection on which a
//! transaction did not end as intended is closed. SQLite then rolls back what was open.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection};

/// A write transaction. Dropping it without [`commit`](Self::commit) or [`rollback`](Self::rollback) closes its connection, which rolls it back.
pub struct WriteTransaction {
    /// `None` once the transaction has ended as intended and its connection was returned to the pool.
    connection: Option<PoolConnection<Sqlite>>,
}

impl WriteTransaction {
    /// Begins a transaction, and takes SQLite's lock for writing at once.
    ///
    /// # Errors
    /// No connection can be had, or the database is locked for too long.
    pub async fn begin(pool: &SqlitePool) -> sqlx::Result<Self> {
        let mut transaction = Self { connection: Some(pool.acquire().await?) };
        transaction.run("BEGIN IMMEDIATE").await?;
        Ok(transaction)
    }

    /// Returns the connection for the transaction's statements.
    ///
    /// # Panics
    /// Never: the connection is missing only while the transaction ends.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("a transaction has its connection until it ends")
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// The changes cannot be written; none of them is kept.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.run("COMMIT").await?;
        self.connection = None;
        Ok(())
    }

    /// Rolls the transaction back, and keeps its connection.
    ///
    /// # Errors
    /// SQLite refuses; the connection is closed, which rolls the transaction back too.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        self.run("ROLLBACK").await?;
        self.connection = None;
        Ok(())
    }

    async fn run(&mut self, statement: &'static str) -> sqlx::Result<()> {
        sqlx::query(statement).execute(self.connection()).await.map(|_| ())
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

    use super::*;

    /// Opens a pool of one connection on a new database with the table `rows`.
    async fn pool(file: &Path) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        sqlx::query("CREATE TABLE rows (content BLOB)").execute(&pool).await.unwrap();
        pool
    }

    async fn insert(transaction: &mut WriteTransaction, bytes: i64) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO rows VALUES (zeroblob(?))").bind(bytes).execute(transaction.connection()).await.map(|_| ())
    }

    /// Counts the rows that another connection sees.
    async fn rows_on_disk(file: &Path) -> i64 {
        let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file).read_only(true)).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM rows").fetch_one(&pool).await.unwrap()
    }

    /// Makes inserting 100,000 bytes fail as on a full disk, at any of the statements up to the commit.
    async fn fail_by_a_full_disk(pool: &SqlitePool) {
        // The bound belongs to the connection, so that it ends with it.
        sqlx::query("PRAGMA max_page_count = 4").execute(pool).await.unwrap();
        let mut transaction = WriteTransaction::begin(pool).await.unwrap();
        let error = insert(&mut transaction, 100_000).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "13", "{error}");
    }

    #[tokio::test]
    async fn a_commit_after_a_full_disk_is_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.db");
        let pool = pool(&file).await;
        for expected in 1..=3 {
            fail_by_a_full_disk(&pool).await;
            let mut transaction = WriteTransaction::begin(&pool).await.unwrap();
            insert(&mut transaction, 100_000).await.unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(rows_on_disk(&file).await, expected);
        }
    }

    #[tokio::test]
    async fn a_refused_change_is_undone_and_keeps_its_connection() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.db");
        let pool = pool(&file).await;
        sqlx::query("PRAGMA cache_size = 77").execute(&pool).await.unwrap();
        let cache_size = async || sqlx::query_scalar::<_, i64>("PRAGMA cache_size").fetch_one(&pool).await.unwrap();
        let mut refused = WriteTransaction::begin(&pool).await.unwrap();
        insert(&mut refused, 1).await.unwrap();
        refused.rollback().await.unwrap();
        assert_eq!((rows_on_disk(&file).await, cache_size().await), (0, 77));
        let mut dropped = WriteTransaction::begin(&pool).await.unwrap();
        insert(&mut dropped, 1).await.unwrap();
        drop(dropped);
        assert_ne!(cache_size().await, 77, "the connection was closed");
        assert_eq!(rows_on_disk(&file).await, 0);
    }
}
