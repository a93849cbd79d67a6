//! A process that dies, a runner that hangs, breaks or fails: what becomes of the task.

use milepost_runtime::Stop;
use milepost_service::{ApprovalRequest, Error, RunFailure, ServiceConfig, TaskRecord, TaskState};

use super::stage::{BREAKS, Manners, Process, Run, Stage, config, state, step, task};

pub fn request() -> ApprovalRequest {
    ApprovalRequest { action: "goto \"http://other.local/\"".into(), reason: "outside".into(), url: None, screenshot: None }
}

/// How far a task had come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    Queued,
    Started,
    Stepped,
    Acted,
    Asking,
    Approved,
    CancelRequested,
    Done,
}

impl Point {
    /// Brings a task there. Holds the run, so that it neither ends nor is lost.
    async fn reach(self, stage: &Stage, record: &TaskRecord) -> Option<Run> {
        if self == Self::Queued {
            return None;
        }
        let run = stage.run().await;
        let id = &record.id;
        match self {
            Self::Queued | Self::Started => {}
            Self::Stepped => {
                run.desk.emit(step(0));
                stage.after(id, 0, "step").await;
            }
            Self::Acted => run.desk.acted().await.unwrap(),
            Self::Asking | Self::Approved => {
                let desk = run.desk.clone();
                let asking = tokio::spawn(async move { desk.ask(request()).await });
                stage.after(id, 0, "approval_requested").await;
                if self == Self::Approved {
                    stage.service.approve(id, None).await.unwrap();
                    asking.await.unwrap().unwrap();
                }
            }
            Self::CancelRequested => {
                stage.service.cancel(id).await.unwrap();
            }
            Self::Done => {
                run.desk.acted().await.unwrap();
                run.answer("42");
                stage.after(id, 0, "ended").await;
                return None;
            }
        }
        Some(run)
    }
}

#[test]
fn a_killed_process_loses_no_task_and_repeats_no_side_effect() {
    use TaskState::{Cancelled, Done, Failed, Interrupted, Queued};
    for (point, idempotent, max_attempts, expected) in [
        (Point::Queued, false, 3, Queued),
        (Point::Started, false, 3, Queued),
        (Point::Started, false, 1, Failed),
        (Point::Stepped, false, 3, Queued),
        (Point::Acted, false, 3, Interrupted),
        (Point::Acted, true, 3, Queued),
        (Point::Asking, false, 3, Interrupted),
        (Point::Approved, false, 3, Queued),
        (Point::CancelRequested, false, 3, Cancelled),
        (Point::Done, false, 3, Done),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let config = ServiceConfig { max_attempts, cancel_seconds: 60, ..config() };
        let process = Process::start(directory.path(), config.clone());
        let (record, run) = process.within(async {
            if point == Point::Queued {
                process.stage.service.pause();
            }
            let mut submission = task("buy");
            submission.idempotent = idempotent;
            let record = process.stage.submit(submission).await;
            let run = point.reach(&process.stage, &record).await;
            (record, run)
        });
        drop(run.map(|run| run.record));
        process.kill();

        let process = Process::start(directory.path(), config);
        process.within(async {
            let (stage, id) = (&process.stage, &record.id);
            let found = stage.service.get(id).await.unwrap();
            let attempts = u32::from(point != Point::Queued);
            match expected {
                // It may have been started again already.
                Queued => {
                    let run = stage.run().await;
                    assert_eq!(state(&run.record), (TaskState::Running, attempts + 1), "{point:?}");
                    assert!(run.desk.messages().is_empty());
                    run.answer("42");
                    assert_eq!(stage.after(id, 0, "ended").await.state, Done, "{point:?}");
                }
                Interrupted => {
                    assert_eq!(state(&found), (Interrupted, 1), "{point:?}");
                    assert!(matches!(stage.service.approve(id, None).await, Err(Error::Conflict { state: Interrupted, .. })));
                    let resumed = stage.service.resume(id).await.unwrap();
                    let run = stage.run().await;
                    assert_eq!((resumed.state, run.record.attempts, run.record.acted), (Queued, 2, false), "{point:?}");
                    run.answer("42");
                    let done = stage.after(id, 0, "ended").await;
                    assert_eq!((done.state, done.answer.as_deref()), (Done, Some("42")), "{point:?}");
                }
                Failed => assert_eq!((found.state, found.stop.as_deref()), (Failed, Some("lost")), "{point:?}"),
                state => assert_eq!(found.state, state, "{point:?}"),
            }
            assert_eq!(stage.words(id).await.last(), Some(&"ended"), "{point:?}");
            assert!(stage.idle().await, "{point:?}: nothing is run twice");
        });
        process.kill();
    }
}

#[tokio::test]
async fn a_silent_runner_loses_its_task_and_one_that_waits_for_a_person_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), ServiceConfig { workers: 3, lease_seconds: 4, ..config() }, Manners::Deaf).await;
    let asks = stage.submit(task("asks")).await;
    let asking = stage.run().await;
    let desk = asking.desk.clone();
    let decision = tokio::spawn(async move { desk.ask(request()).await });
    stage.after(&asks.id, 0, "approval_requested").await;

    let acts = stage.submit(task("acts")).await;
    let acting = stage.run().await;
    acting.desk.acted().await.unwrap();
    let reads = stage.submit(task("reads")).await;
    let reading = stage.run().await;

    let interrupted = stage.after(&acts.id, 0, "interrupted").await;
    assert!(interrupted.reason.as_ref().unwrap().contains("silent for 4 s"), "{interrupted:?}");
    let again = stage.run().await;
    assert_eq!((&again.record.id, again.record.attempts), (&reads.id, 2));
    // The old runner's hands are off.
    assert!(matches!(reading.desk.acted().await, Err(Error::Lost(_))));
    assert!(matches!(acting.desk.episode("e").await, Err(Error::Lost(_))));
    reading.desk.emit(step(7));
    again.answer("42");
    let done = stage.after(&reads.id, 0, "ended").await;
    assert!(!done.acted && !stage.words(&reads.id).await.contains(&"step"));

    assert_eq!(stage.service.get(&asks.id).await.unwrap().state, TaskState::NeedsApproval);
    stage.service.approve(&asks.id, None).await.unwrap();
    decision.await.unwrap().unwrap();
    asking.answer("42");
    assert_eq!(state(&stage.after(&asks.id, 0, "ended").await), (TaskState::Done, 1));
}

#[tokio::test]
async fn a_runner_that_shows_life_keeps_its_task() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), ServiceConfig { workers: 2, lease_seconds: 4, ..config() }, Manners::Deaf).await;
    let lives = stage.submit(task("lives")).await;
    let living = stage.run().await;
    let silent = stage.submit(task("silent")).await;
    let _silent = stage.run().await;
    let desk = living.desk.clone();
    let beats = tokio::spawn(async move {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            every.tick().await;
            desk.beat();
        }
    });
    stage.after(&silent.id, 1, "queued").await;
    beats.abort();
    assert_eq!(state(&stage.service.get(&lives.id).await.unwrap()), (TaskState::Running, 1));
}

#[tokio::test]
async fn failures_and_stops_have_their_states() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), ServiceConfig { max_attempts: 2, ..config() }, Manners::Deaf).await;
    let transient = || Err(RunFailure::Transient("no browser".into()));
    let permanent = || Err(RunFailure::Permanent("no such profile".into()));
    let stopped = |stop| Ok(super::stage::report(stop, None));
    for (acts, results, expected, stop) in [
        (false, vec![transient(), transient()], TaskState::Failed, Some("lost")),
        (false, vec![transient(), stopped(Stop::Answered)], TaskState::Done, Some("answered")),
        (true, vec![transient()], TaskState::Interrupted, None),
        (true, vec![permanent()], TaskState::Failed, Some("failed")),
        (false, vec![stopped(Stop::StepLimit)], TaskState::Failed, Some("step_limit")),
        (false, vec![stopped(Stop::GaveUp("no".into()))], TaskState::Failed, Some("gave_up")),
        (false, vec![stopped(Stop::NeedsApproval("no".into()))], TaskState::Failed, Some("needs_approval")),
        (false, vec![stopped(Stop::Cancelled)], TaskState::Cancelled, Some("cancelled")),
    ] {
        let record = stage.submit(task("x")).await;
        for result in results {
            let run = stage.run().await;
            if acts {
                run.desk.acted().await.unwrap();
            }
            run.end.send(result).unwrap();
        }
        let last = if expected.is_final() { "ended" } else { "interrupted" };
        let found = stage.after(&record.id, 0, last).await;
        assert_eq!((found.state, found.stop.as_deref()), (expected, stop), "{found:?}");
        assert_eq!(found.ended_at.is_some(), expected.is_final());
    }
}

#[tokio::test]
async fn a_runner_that_breaks_is_tried_again_and_then_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), config(), Manners::Deaf).await;
    let record = stage.submit(task(BREAKS)).await;
    let failed = stage.after(&record.id, 0, "ended").await;
    assert_eq!((state(&failed), failed.stop.as_deref()), ((TaskState::Failed, 3), Some("lost")));
    assert!(failed.reason.unwrap().contains("given up after 3 attempts; the last one: its runner broke"));
    stage.submit(task("the worker lives on")).await;
    stage.run().await.answer("42");
}

#[tokio::test]
async fn one_process_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), config(), Manners::Obedient).await;
    let ports = milepost_service::Ports {
        runner: std::sync::Arc::new(Nobody),
        episodes: stage.episodes.clone(),
        deliver: std::sync::Arc::new(Nobody),
    };
    let second = milepost_service::Service::open(directory.path(), config(), ports).await;
    assert!(matches!(second.err(), Some(Error::InUse(_))));
}

struct Nobody;

#[async_trait::async_trait]
impl milepost_service::Runner for Nobody {
    async fn run(&self, _: milepost_service::Job) -> Result<milepost_service::Report, RunFailure> {
        Err(RunFailure::Permanent("nobody".into()))
    }
}

#[async_trait::async_trait]
impl milepost_service::Deliver for Nobody {
    async fn deliver(&self, _: &milepost_service::Delivery) -> Result<u16, String> {
        Err("nobody".into())
    }
}
