//! The database file: its migrations, and the disk space of removed tasks.

use std::path::Path;

use milepost_service::{Error, ServiceConfig};
use sha2::{Digest, Sha384};
use sqlx::Row;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::harness::{Harness, OnCancel, Process, TIMEOUT, config, submission};

/// The directory that `sqlx::migrate!` read at compile time in earlier versions. `Migrator::new` reads it in the same way.
const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");

async fn database(directory: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(directory.join("service.sqlite")).create_if_missing(true);
    SqlitePool::connect_with(options).await.unwrap()
}

/// Returns version, description and checksum of the applied migrations.
async fn applied(pool: &SqlitePool) -> Vec<(i64, String, Vec<u8>)> {
    let rows = sqlx::query("SELECT version, description, checksum FROM _sqlx_migrations ORDER BY version").fetch_all(pool).await.unwrap();
    rows.iter().map(|row| (row.get("version"), row.get("description"), row.get("checksum"))).collect()
}

fn expected_migrations() -> Vec<(i64, String, Vec<u8>)> {
    let sql = std::fs::read(format!("{MIGRATIONS}/0001_service.sql")).unwrap();
    vec![(1, "service".to_owned(), Sha384::digest(sql).to_vec())]
}

#[tokio::test]
async fn a_database_that_was_migrated_from_the_files_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let pool = database(directory.path()).await;
    Migrator::new(Path::new(MIGRATIONS)).await.unwrap().run(&pool).await.unwrap();
    assert_eq!(applied(&pool).await, expected_migrations());
    let harness = Harness::open(directory.path(), config(), OnCancel::Ends).await;
    harness.submit(submission("x")).await;
    assert_eq!(applied(&pool).await, expected_migrations());
}

#[tokio::test]
async fn a_new_database_has_the_checksums_of_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let _harness = Harness::open(directory.path(), config(), OnCancel::Ends).await;
    assert_eq!(applied(&database(directory.path()).await).await, expected_migrations());
}

/// Returns the size of the database and its write-ahead log in bytes.
fn size(directory: &Path) -> u64 {
    ["service.sqlite", "service.sqlite-wal"].iter().map(|name| std::fs::metadata(directory.join(name)).map_or(0, |file| file.len())).sum()
}

/// Ends a task, and then makes it a hundred days old and gives it 8 MB of events.
fn leave_an_old_task(directory: &Path, config: &ServiceConfig, auto_vacuum: &'static str) -> String {
    let process = Process::start(directory, config.clone());
    let id = process.block_on(async {
        let record = process.harness.submit(submission("old")).await;
        process.harness.next_run().await.answer("42");
        process.harness.after_event(&record.id, 0, "ended").await.id
    });
    process.kill();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let pool = database(directory).await;
        let old = (chrono::Utc::now() - chrono::TimeDelta::days(100)).timestamp_millis();
        sqlx::query("UPDATE tasks SET ended_at = ?").bind(old).execute(&pool).await.unwrap();
        let events = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
            INSERT INTO events (task, seq, at, kind) SELECT ?, i + 100, 0, hex(randomblob(2048)) FROM n";
        sqlx::query(events).bind(&id).execute(&pool).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        sqlx::query(auto_vacuum).execute(&mut *connection).await.unwrap();
        sqlx::query("VACUUM").execute(&mut *connection).await.unwrap();
        drop(connection);
        pool.close().await;
    });
    assert!(size(directory) > 8_000_000, "{}", size(directory));
    id
}

/// The first case is a database of this version, the second one of a version that did not set `auto_vacuum`.
#[test]
fn removing_old_tasks_gives_their_disk_space_back() {
    for auto_vacuum in ["PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA auto_vacuum = NONE"] {
        let directory = tempfile::tempdir().unwrap();
        let config = ServiceConfig { retention_days: 90, ..config() };
        let id = leave_an_old_task(directory.path(), &config, auto_vacuum);
        let process = Process::start(directory.path(), config);
        process.block_on(async {
            let reclaimed = async {
                while size(directory.path()) > 200_000 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(TIMEOUT, reclaimed).await.expect("the space was not given back");
            assert!(matches!(process.harness.service.get(&id).await, Err(Error::NotFound(_))), "{auto_vacuum}");
            process.harness.submit(submission("new")).await;
            process.harness.next_run().await.answer("42");
        });
        process.kill();
    }
}
