//! Schema migrations that are embedded in the binary.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Makes a migrator from a list of (version, description, SQL), in ascending order of the versions.
///
/// It gives each migration the checksum that `sqlx::migrate!` computes (SHA-384 of the SQL), and therefore accepts the databases that such
/// a migrator wrote. A migration that has been released must never change: the checksum in existing databases would not match any more. Its
/// description is the file's name without the version and with spaces for underscores.
pub fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = migrations.iter().map(|(version, description, sql)| {
        Migration::new(*version, Cow::Borrowed(*description), MigrationType::Simple, Cow::Borrowed(*sql), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    use sha2::{Digest, Sha384};
    use sqlx::Row;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

    use super::*;
    use crate::store::SqliteStore;

    /// The directory that `sqlx::migrate!` read at compile time. `Migrator::new` reads it in the same way.
    const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");

    async fn database(directory: &Path) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(directory.join("episodes.db")).create_if_missing(true);
        SqlitePool::connect_with(options).await.unwrap()
    }

    /// Returns version, description and checksum of the applied migrations.
    async fn applied(pool: &SqlitePool) -> Vec<(i64, String, Vec<u8>)> {
        let rows =
            sqlx::query("SELECT version, description, checksum FROM _sqlx_migrations ORDER BY version").fetch_all(pool).await.unwrap();
        rows.iter().map(|row| (row.get("version"), row.get("description"), row.get("checksum"))).collect()
    }

    #[tokio::test]
    async fn the_store_opens_a_database_that_was_migrated_from_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let pool = database(directory.path()).await;
        Migrator::new(Path::new(DIRECTORY)).await.unwrap().run(&pool).await.unwrap();
        let from_files = applied(&pool).await;
        let expected: Vec<_> = [(1, "episodes"), (2, "quarantine")]
            .into_iter()
            .map(|(version, name)| {
                let sql = std::fs::read(format!("{DIRECTORY}/{version:04}_{name}.sql")).unwrap();
                (version, name.to_owned(), Sha384::digest(sql).to_vec())
            })
            .collect();
        assert_eq!(from_files, expected);
        SqliteStore::open(directory.path()).await.unwrap();
        assert_eq!(applied(&pool).await, from_files, "nothing is applied twice");
    }

    #[tokio::test]
    async fn a_new_database_gets_the_same_versions_descriptions_and_checksums() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pool = database(old.path()).await;
        Migrator::new(Path::new(DIRECTORY)).await.unwrap().run(&pool).await.unwrap();
        SqliteStore::open(new.path()).await.unwrap();
        assert_eq!(applied(&database(new.path()).await).await, applied(&pool).await);
    }

    #[tokio::test]
    async fn a_changed_migration_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pool = database(directory.path()).await;
        migrator(&[(1, "first", "CREATE TABLE a (b)")]).run(&pool).await.unwrap();
        migrator(&[(1, "first", "CREATE TABLE a (b)"), (2, "second", "CREATE TABLE c (d)")]).run(&pool).await.unwrap();
        assert!(migrator(&[(1, "first", "CREATE TABLE a (c)"), (2, "second", "CREATE TABLE c (d)")]).run(&pool).await.is_err());
        assert!(migrator(&[(1, "first", "CREATE TABLE a (b)")]).run(&pool).await.is_err(), "a database of a newer version");
    }
}
