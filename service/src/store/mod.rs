//! The service's SQLite file: one writer whose transactions are published in the order of their commits, and readers beside it.

mod outbox;
mod read;
mod tx;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Mutex;

pub(crate) use outbox::Letter;
pub(crate) use tx::{Turn, Tx};

use crate::error::{Error, Result};
use crate::feed::Feed;

/// Tasks, their events and the outbox in `DIRECTORY/service.sqlite`.
pub(crate) struct Store {
    file: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held from a transaction's begin until its events are published.
    turn: Arc<Mutex<()>>,
    /// Queued tasks, for who asks without touching the disk.
    queued: AtomicI64,
    pub(crate) feed: Feed,
}

impl Store {
    /// Opens (or makes) the file and brings its schema up to date.
    pub(crate) async fn open(directory: &Path, tail: usize) -> Result<Self> {
        let file = directory.join("service.sqlite");
        let fail = |reason: String| Error::Store { path: file.display().to_string(), reason };
        // FULL: that a task has acted must outlive a loss of power, too.
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let connect = async |options: SqliteConnectOptions, connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .connect_with(options)
                .await
                .map_err(|error| fail(format!("it cannot be opened: {error}; check its permissions and the space on its disk")))
        };
        let writer = connect(options.clone(), 1).await?;
        sqlx::migrate!("./migrations").run(&writer).await.map_err(|error| {
            fail(format!("its schema cannot be brought up to date: {error}; it may belong to a newer version of milepost"))
        })?;
        let readers = connect(options.read_only(true), 4).await?;
        let store = Self { file, writer, readers, turn: Arc::default(), queued: AtomicI64::new(0), feed: Feed::new(tail) };
        store.count_queued().await?;
        Ok(store)
    }

    fn error(&self, error: &sqlx::Error) -> Error {
        let reason = format!("{error}; where the disk is full, free some space: what was written so far is safe");
        Error::Store { path: self.file.display().to_string(), reason }
    }

    fn corrupt(&self, what: &str, reason: impl std::fmt::Display) -> Error {
        let reason = format!("{what} cannot be read: {reason}; it was written by another version or the file is damaged");
        Error::Store { path: self.file.display().to_string(), reason }
    }
}

/// Milliseconds since 1970.
fn ms(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}
