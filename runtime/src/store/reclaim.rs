//! Returns the disk space of deleted rows to the file system.
//!
//! SQLite keeps the pages of deleted rows for later rows; the file does not shrink by itself. A database that is created with
//! `auto_vacuum=INCREMENTAL` can return its free pages cheaply. One that was created without it can be converted by a full `VACUUM`, which
//! rewrites the whole database and needs disk space for that. Source: <https://www.sqlite.org/pragma.html#pragma_auto_vacuum>,
//! <https://www.sqlite.org/lang_vacuum.html>.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqlitePool};

/// The values of `PRAGMA auto_vacuum`.
const NONE: i64 = 0;
const INCREMENTAL: i64 = 2;

/// Number of copies of the remaining rows for which a full `VACUUM` needs disk space: a temporary database and the write-ahead log.
const VACUUM_COPIES: u64 = 2;

/// The reason why [`reclaim`] gave no space back.
#[derive(Debug, thiserror::Error)]
pub enum NotReclaimed {
    /// The database was created without `auto_vacuum`, and the disk has too little space for rewriting it.
    #[error("rewriting the database needs {needed} bytes and its disk has {free} free; free some space, and the next prune gives it back")]
    NoRoom {
        /// Bytes that a full `VACUUM` needs.
        needed: u64,
        /// Free bytes of the disk.
        free: u64,
    },
    /// The free space of the disk is unknown.
    #[error("the free space of the disk cannot be read: {0}")]
    FreeSpace(#[from] io::Error),
    /// The database failed; it is unchanged.
    #[error("{0}; the database is unchanged, and the next prune tries again")]
    Database(#[from] sqlx::Error),
}

/// Adds `auto_vacuum=INCREMENTAL` to the options if the database does not exist yet. SQLite takes this setting only before the first table
/// is created.
pub fn with_auto_vacuum(options: SqliteConnectOptions, database: &Path) -> SqliteConnectOptions {
    let is_new = std::fs::metadata(database).map_or(true, |file| file.len() == 0);
    if is_new { options.auto_vacuum(SqliteAutoVacuum::Incremental) } else { options }
}

/// Returns the free pages of a database to the file system, to be called after rows were deleted.
///
/// A database that was created without `auto_vacuum` is rewritten with `auto_vacuum=INCREMENTAL` if its disk has enough space. No
/// transaction may be open on the pool; other processes wait or fail as for any long transaction.
///
/// # Errors
/// The disk has too little space, its free space cannot be read, or the database fails.
pub async fn reclaim(pool: &SqlitePool, database: &Path) -> Result<(), NotReclaimed> {
    let directory = database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    reclaim_within(pool, || free_bytes(directory)).await
}

/// Does the work of [`reclaim`]; `free` reads the free bytes of the database's disk.
pub(super) async fn reclaim_within(pool: &SqlitePool, free: impl FnOnce() -> io::Result<u64>) -> Result<(), NotReclaimed> {
    let mut connection = pool.acquire().await?;
    match number(&mut connection, "PRAGMA auto_vacuum").await? {
        // Without free pages there is nothing to give back.
        NONE if number(&mut connection, "PRAGMA freelist_count").await? == 0 => {}
        NONE => {
            let needed = remaining_bytes(&mut connection).await?.saturating_mul(VACUUM_COPIES);
            let free = free()?;
            if free < needed {
                return Err(NotReclaimed::NoRoom { needed, free });
            }
            sqlx::query("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut *connection).await?;
            sqlx::query("VACUUM").execute(&mut *connection).await?;
        }
        INCREMENTAL => {
            sqlx::query("PRAGMA incremental_vacuum").execute(&mut *connection).await?;
        }
        // auto_vacuum=FULL: each commit has returned its free pages already.
        _ => {}
    }
    // With a write-ahead log the file shrinks when the log is written back. Readers may delay that until a later checkpoint, which is no
    // error.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await?;
    Ok(())
}

/// Returns the size of a database without its free pages, in bytes.
async fn remaining_bytes(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let pages = number(connection, "PRAGMA page_count").await? - number(connection, "PRAGMA freelist_count").await?;
    let bytes = pages.saturating_mul(number(connection, "PRAGMA page_size").await?);
    Ok(u64::try_from(bytes).unwrap_or_default())
}

async fn number(connection: &mut SqliteConnection, query: &'static str) -> sqlx::Result<i64> {
    sqlx::query_scalar(query).fetch_one(connection).await
}

/// Returns the free bytes of the file system that holds a path, as far as this process may use them.
///
/// # Errors
/// The path does not exist or cannot be used.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is NUL-terminated and `stat` has the size that the call writes.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that it has initialised `stat`.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::PathBuf;

    use sqlx::sqlite::SqliteJournalMode;

    use super::*;

    struct Database {
        directory: tempfile::TempDir,
        pool: SqlitePool,
    }

    impl Database {
        /// Creates a database in WAL mode with an empty table; `prepare` may change the options.
        async fn create(prepare: impl FnOnce(SqliteConnectOptions, &Path) -> SqliteConnectOptions) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("rows.db");
            let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
            let pool = SqlitePool::connect_with(prepare(options, &file)).await.unwrap();
            sqlx::query("CREATE TABLE rows (id INTEGER PRIMARY KEY, content BLOB NOT NULL)").execute(&pool).await.unwrap();
            Self { directory, pool }
        }

        fn file(&self) -> PathBuf {
            self.directory.path().join("rows.db")
        }

        /// Returns the size of the database's files in bytes: the database itself and its write-ahead log.
        fn size(&self) -> u64 {
            let size = |name: &str| std::fs::metadata(self.directory.path().join(name)).map_or(0, |file| file.len());
            size("rows.db") + size("rows.db-wal")
        }

        /// Inserts a thousand rows of 4 KiB, and deletes all but ten of the table's rows.
        async fn fill_and_prune(&self) {
            let insert = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                INSERT INTO rows (content) SELECT randomblob(4096) FROM n";
            sqlx::query(insert).execute(&self.pool).await.unwrap();
            sqlx::query("DELETE FROM rows WHERE id NOT IN (SELECT id FROM rows ORDER BY id LIMIT 10)").execute(&self.pool).await.unwrap();
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await.unwrap();
            assert!(self.size() > 4_000_000, "{}", self.size());
        }

        async fn auto_vacuum(&self) -> i64 {
            sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(&self.pool).await.unwrap()
        }

        /// Checks that the space was given back and the remaining rows are whole.
        async fn check_reclaimed(&self) {
            assert!(self.size() < 200_000, "{}", self.size());
            let rows: i64 = sqlx::query_scalar("SELECT sum(length(content)) / 4096 FROM rows").fetch_one(&self.pool).await.unwrap();
            let integrity: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&self.pool).await.unwrap();
            assert_eq!((rows, integrity.as_str()), (10, "ok"));
        }
    }

    #[tokio::test]
    async fn a_new_database_returns_its_free_pages() {
        let database = Database::create(with_auto_vacuum).await;
        assert_eq!(database.auto_vacuum().await, INCREMENTAL);
        database.fill_and_prune().await;
        reclaim_within(&database.pool, || panic!("no room is needed")).await.unwrap();
        database.check_reclaimed().await;
    }

    #[tokio::test]
    async fn an_existing_database_is_rewritten_once() {
        let database = Database::create(|options, _| options).await;
        assert_eq!(database.auto_vacuum().await, NONE);
        database.fill_and_prune().await;
        reclaim(&database.pool, &database.file()).await.unwrap();
        database.check_reclaimed().await;
        assert_eq!(database.auto_vacuum().await, INCREMENTAL);

        database.fill_and_prune().await;
        reclaim_within(&database.pool, || panic!("no room is needed any more")).await.unwrap();
        database.check_reclaimed().await;
    }

    #[tokio::test]
    async fn without_room_an_existing_database_stays_as_it_is() {
        let database = Database::create(|options, _| options).await;
        database.fill_and_prune().await;
        let before = database.size();
        let refused = reclaim_within(&database.pool, || Ok(1000)).await.unwrap_err();
        assert!(matches!(refused, NotReclaimed::NoRoom { needed: 80_000..200_000, free: 1000 }), "{refused:?}");
        let unknown = reclaim_within(&database.pool, || Err(io::Error::other("no answer"))).await.unwrap_err();
        assert!(matches!(unknown, NotReclaimed::FreeSpace(_)), "{unknown:?}");
        assert_eq!((database.auto_vacuum().await, database.size()), (NONE, before));
    }

    #[tokio::test]
    async fn the_options_of_an_existing_database_are_not_changed() {
        let database = Database::create(|options, _| options).await;
        let options = with_auto_vacuum(SqliteConnectOptions::new().filename(database.file()), &database.file());
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let mode: i64 = sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(&pool).await.unwrap();
        assert_eq!(mode, NONE);
    }

    #[test]
    fn free_space_is_read_where_there_is_a_path() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(directory.path()).unwrap() > 0);
        assert!(free_bytes(&directory.path().join("none")).is_err());
    }
}
