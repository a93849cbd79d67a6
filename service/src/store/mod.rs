//! The service's SQLite database: one writer, whose events are published in the order of the commits, and concurrent readers.

mod health;
mod outbox;
mod probe;
mod read;
mod tx;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use milepost_runtime::store::{migrations, reclaim};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::Mutex;

pub(crate) use health::WriteHealth;
pub(crate) use outbox::OutboxEntry;
pub(crate) use tx::Tx;

use crate::broadcast::Broadcast;
use crate::error::{Error, Result};

/// The schema's migrations: version, description and SQL. Existing databases hold their checksums, so none may change.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "service", include_str!("../../migrations/0001_service.sql"))];

/// The tasks, their events and the outbox, in `DIRECTORY/service.sqlite`.
pub(crate) struct Store {
    file: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held by a writer from the beginning of its transaction until its events are published.
    write_lock: Arc<Mutex<()>>,
    /// Number of queued tasks, to be read without a query.
    queued: AtomicI64,
    pub(crate) broadcast: Broadcast,
    pub(crate) health: WriteHealth,
}

impl Store {
    /// Opens the database (creating it if necessary) and migrates its schema; `tail_size` is the number of events that are kept in memory
    /// per scope.
    ///
    /// # Errors
    /// The database cannot be opened or migrated.
    pub(crate) async fn open(directory: &Path, tail_size: usize) -> Result<Self> {
        let file = directory.join("service.sqlite");
        let fail = |reason: String| Error::Store { path: file.display().to_string(), reason };
        // FULL, because the record that a task has acted must survive a loss of power, too.
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
        let writer = connect(reclaim::with_auto_vacuum(options.clone(), &file), 1).await?;
        migrations::migrator(&MIGRATIONS).run(&writer).await.map_err(|error| {
            fail(format!("its schema cannot be brought up to date: {error}; it may belong to a newer version of milepost"))
        })?;
        let readers = connect(options.read_only(true), 4).await?;
        let store = Self {
            file,
            writer,
            readers,
            write_lock: Arc::default(),
            queued: AtomicI64::new(0),
            broadcast: Broadcast::new(tail_size),
            health: WriteHealth::default(),
        };
        store.initialise_queued().await?;
        Ok(store)
    }

    /// Returns the disk space of removed rows to the file system. No change is written meanwhile.
    ///
    /// # Errors
    /// The space cannot be given back; the error says why.
    pub(crate) async fn reclaim_space(&self) -> Result<(), reclaim::NotReclaimed> {
        let _writing = self.write_lock.lock().await;
        reclaim::reclaim(&self.writer, &self.file).await
    }

    /// Converts an error of the database.
    fn error(&self, error: &sqlx::Error) -> Error {
        let path = self.file.display().to_string();
        if is_full(error) {
            return Error::NoSpace { path };
        }
        Error::Store { path, reason: format!("{error}; what was written so far is safe") }
    }

    /// Converts an error of a write, and records that the database cannot be written.
    fn write_error(&self, error: &sqlx::Error) -> Error {
        let error = self.error(error);
        self.health.failed(&error);
        error
    }

    /// Makes the error for stored data that cannot be read.
    fn corrupt(&self, what: &str, reason: impl std::fmt::Display) -> Error {
        let reason = format!("{what} cannot be read: {reason}; it was written by another version or the file is damaged");
        Error::Store { path: self.file.display().to_string(), reason }
    }
}

/// Returns whether SQLite reports a full disk (SQLITE_FULL, code 13; <https://www.sqlite.org/rescode.html#full>).
fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "13")
}

/// Converts a time to milliseconds since 1970.
fn ms(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

/// Converts milliseconds since 1970 to a time.
fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}
