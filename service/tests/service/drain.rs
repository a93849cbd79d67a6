//! Shutting down in an orderly way within a time limit.

use std::time::Duration;

use futures_util::StreamExt;
use milepost_service::{CancelCause, Decision, Drained, Error, ServiceConfig, TaskState};

use super::harness::{Harness, OnCancel, TIMEOUT, approval_request, config, submission};

#[tokio::test]
async fn a_drain_waits_for_runs_that_end_and_aborts_the_rest() {
    for on_cancel in [OnCancel::Ends, OnCancel::Ignores] {
        let directory = tempfile::tempdir().unwrap();
        let limits = ServiceConfig { workers: 4, per_caller_running: 4, cancel_seconds: 60, ..config() };
        let harness = Harness::open(directory.path(), limits.clone(), on_cancel).await;
        let mut runs = Vec::new();
        for goal in ["ends", "acts", "reads", "asks"] {
            harness.submit(submission(goal)).await;
            runs.push(harness.next_run().await);
        }
        // The task that waits for approval frees its worker, which must not start another one.
        harness.service.pause();
        let waits = harness.submit(submission("waits")).await;
        let ids: Vec<String> = runs.iter().map(|run| run.record.id.clone()).collect();
        runs[1].handle.mark_acted().await.unwrap();
        let handle = runs[3].handle.clone();
        let asking = tokio::spawn(async move { handle.request_approval(approval_request()).await });
        harness.after_event(&ids[3], 0, "approval_requested").await;

        let follower = harness.service.events(&ids[1], 0).await.unwrap();
        let bound = Duration::from_secs(5);
        let service = harness.service.clone();
        let draining = tokio::spawn(async move { service.drain(bound).await });
        // The task that waits for approval is cancelled first; once it is, the drain has begun.
        assert_eq!(asking.await.unwrap().unwrap(), Decision::Ended(CancelCause::Drain));
        assert!(matches!(harness.service.submit("ana", submission("late")).await, Err(Error::Draining { .. })));
        runs.remove(0).answer("42");
        // The limit is far below the 60 seconds that a cancelled run has to end.
        let drained = tokio::time::timeout(TIMEOUT, draining).await.expect("no end").unwrap().unwrap();
        assert_eq!(drained, Drained { finished: 1, requeued: 1, interrupted: 2 }, "{on_cancel:?}");
        let mut states = Vec::new();
        for id in ids.iter().chain([&waits.id]) {
            states.push(harness.service.get(id).await.unwrap().state);
        }
        use TaskState::{Done, Interrupted, Queued};
        assert_eq!(states, [Done, Interrupted, Queued, Interrupted, Queued]);
        assert_eq!(follower.map(|event| event.unwrap().kind.word()).collect::<Vec<_>>().await.last(), Some(&"interrupted"));

        // The next service continues with the oldest task; the shutdown did not count as an attempt.
        drop((runs, harness));
        let harness = reopen(directory.path(), limits).await;
        let run = harness.next_run().await;
        assert_eq!((&run.record.id, run.record.attempts, run.record.attempt_limit), (&ids[2], 2, 4));
        assert_eq!(harness.next_run().await.record.id, waits.id);
    }
}

/// Opens the directory as soon as the last service has unlocked it.
async fn reopen(directory: &std::path::Path, config: ServiceConfig) -> Harness {
    let lock = std::fs::File::open(directory.join("service.lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
    Harness::open(directory, config, OnCancel::Ignores).await
}
