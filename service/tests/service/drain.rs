//! Ending in good order within a bound.

use std::time::Duration;

use futures_util::StreamExt;
use milepost_service::{Cause, Decision, Drained, Error, ServiceConfig, TaskState};

use super::recovery::request;
use super::stage::{Manners, PATIENCE, Stage, config, task};

#[tokio::test]
async fn a_drain_lets_end_what_ends_and_cuts_off_the_rest() {
    for manners in [Manners::Obedient, Manners::Deaf] {
        let directory = tempfile::tempdir().unwrap();
        let limits = ServiceConfig { workers: 4, per_caller_running: 4, cancel_seconds: 60, ..config() };
        let stage = Stage::open(directory.path(), limits.clone(), manners).await;
        let mut runs = Vec::new();
        for goal in ["ends", "acts", "reads", "asks"] {
            stage.submit(task(goal)).await;
            runs.push(stage.run().await);
        }
        // The one that asks will leave its worker.
        stage.service.pause();
        let waits = stage.submit(task("waits")).await;
        let ids: Vec<String> = runs.iter().map(|run| run.record.id.clone()).collect();
        runs[1].desk.acted().await.unwrap();
        let desk = runs[3].desk.clone();
        let asking = tokio::spawn(async move { desk.ask(request()).await });
        stage.after(&ids[3], 0, "approval_requested").await;

        let follower = stage.service.events(&ids[1], 0).await.unwrap();
        let bound = Duration::from_secs(5);
        let service = stage.service.clone();
        let draining = tokio::spawn(async move { service.drain(bound).await });
        // The task that asks is told first: then the drain has begun.
        assert_eq!(asking.await.unwrap().unwrap(), Decision::Ended(Cause::Drain));
        assert!(matches!(stage.service.submit("ana", task("late")).await, Err(Error::Draining { .. })));
        runs.remove(0).answer("42");
        // Well before the minute in which a task may end that is told to.
        let drained = tokio::time::timeout(PATIENCE, draining).await.expect("no end").unwrap().unwrap();
        assert_eq!(drained, Drained { finished: 1, requeued: 1, interrupted: 2 }, "{manners:?}");
        let mut states = Vec::new();
        for id in ids.iter().chain([&waits.id]) {
            states.push(stage.service.get(id).await.unwrap().state);
        }
        use TaskState::{Done, Interrupted, Queued};
        assert_eq!(states, [Done, Interrupted, Queued, Interrupted, Queued]);
        assert_eq!(follower.map(|event| event.unwrap().kind.word()).collect::<Vec<_>>().await.last(), Some(&"interrupted"));

        // The next one goes on, oldest first; being shut down cost no attempt.
        drop((runs, stage));
        let stage = reopen(directory.path(), limits).await;
        let run = stage.run().await;
        assert_eq!((&run.record.id, run.record.attempts, run.record.attempt_limit), (&ids[2], 2, 4));
        assert_eq!(stage.run().await.record.id, waits.id);
    }
}

/// Opens the directory as soon as the tasks of the service before have let go of it.
async fn reopen(directory: &std::path::Path, config: ServiceConfig) -> Stage {
    let lock = std::fs::File::open(directory.join("service.lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
    Stage::open(directory, config, Manners::Deaf).await
}
