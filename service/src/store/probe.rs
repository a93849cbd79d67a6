//! A write that only shows whether the database can be written.

use super::Store;
use crate::error::Result;

impl Store {
    /// Writes to the database, and records whether that is possible.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) async fn probe(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        let written = tx.write_probe().await;
        tx.finish(written).await?;
        self.health.succeeded();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::config::ServiceConfig;
    use crate::error::Error;
    use crate::event::EventKind;
    use crate::lifecycle;
    use crate::submission::Submission;

    /// Submits a task with a goal of this length.
    async fn submit(store: &Store, length: usize) -> Result<()> {
        let submission = Submission::new(&"x".repeat(length), "http://shop.local/".parse().unwrap());
        let mut task = lifecycle::admit("ana", submission, &ServiceConfig::default(), Utc::now());
        let mut tx = store.begin().await?;
        let written = async {
            tx.insert(&task).await?;
            tx.update(&mut task, vec![EventKind::Queued { reason: None }]).await
        };
        let written = written.await;
        tx.finish(written).await
    }

    #[tokio::test]
    async fn a_full_disk_is_named_and_what_is_acknowledged_afterwards_is_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 10).await.unwrap();
        store.probe().await.unwrap();
        for n in 1..=2 {
            // The bound belongs to the connection, so that it ends with it.
            sqlx::query("PRAGMA max_page_count = 1").execute(&store.writer).await.unwrap();
            let error = submit(&store, 100_000).await.unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }) && error.to_string().contains("service.sqlite"), "{error}");
            assert!(store.health.failure().is_some_and(|reason| reason.contains("full")));
            store.probe().await.unwrap();
            assert_eq!(store.health.failure(), None);
            submit(&store, 100_000).await.unwrap();
            let other = Store::open(directory.path(), 10).await.unwrap();
            assert_eq!(other.list(&crate::TaskFilter::default(), None, 10).await.unwrap().tasks.len(), n);
        }
    }
}
