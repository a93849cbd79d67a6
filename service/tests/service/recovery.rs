//! The recovery of tasks after the process dies, or after a runner hangs, panics or fails.

use milepost_runtime::Stop;
use milepost_service::{Error, RunFailure, ServiceConfig, TaskRecord, TaskState};

use super::harness::{Harness, OnCancel, PANICKING_GOAL, Process, StartedRun, approval_request, config, state, step, submission};

/// The point of a task's life at which the process is killed.
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
    /// Brings a task to this point, and returns its run, which the caller holds so that it does not end.
    async fn reach(self, harness: &Harness, record: &TaskRecord) -> Option<StartedRun> {
        if self == Self::Queued {
            return None;
        }
        let run = harness.next_run().await;
        let id = &record.id;
        match self {
            Self::Queued | Self::Started => {}
            Self::Stepped => {
                run.handle.emit(step(0));
                harness.after_event(id, 0, "step").await;
            }
            Self::Acted => run.handle.mark_acted().await.unwrap(),
            Self::Asking | Self::Approved => {
                let handle = run.handle.clone();
                let asking = tokio::spawn(async move { handle.request_approval(approval_request()).await });
                harness.after_event(id, 0, "approval_requested").await;
                if self == Self::Approved {
                    harness.service.approve(id, None).await.unwrap();
                    asking.await.unwrap().unwrap();
                }
            }
            Self::CancelRequested => {
                harness.service.cancel(id).await.unwrap();
            }
            Self::Done => {
                run.handle.mark_acted().await.unwrap();
                run.answer("42");
                harness.after_event(id, 0, "ended").await;
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
        let (record, run) = process.block_on(async {
            if point == Point::Queued {
                process.harness.service.pause();
            }
            let mut submission = submission("buy");
            submission.idempotent = idempotent;
            let record = process.harness.submit(submission).await;
            let run = point.reach(&process.harness, &record).await;
            (record, run)
        });
        drop(run.map(|run| run.record));
        process.kill();

        let process = Process::start(directory.path(), config);
        process.block_on(async {
            let (harness, id) = (&process.harness, &record.id);
            let found = harness.service.get(id).await.unwrap();
            let attempts = u32::from(point != Point::Queued);
            match expected {
                // The task may have been started again already, so that only its run is checked.
                Queued => {
                    let run = harness.next_run().await;
                    assert_eq!(state(&run.record), (TaskState::Running, attempts + 1), "{point:?}");
                    assert!(run.handle.take_messages().is_empty());
                    run.answer("42");
                    assert_eq!(harness.after_event(id, 0, "ended").await.state, Done, "{point:?}");
                }
                Interrupted => {
                    assert_eq!(state(&found), (Interrupted, 1), "{point:?}");
                    assert!(matches!(harness.service.approve(id, None).await, Err(Error::Conflict { state: Interrupted, .. })));
                    let resumed = harness.service.resume(id).await.unwrap();
                    let run = harness.next_run().await;
                    assert_eq!((resumed.state, run.record.attempts, run.record.acted), (Queued, 2, false), "{point:?}");
                    run.answer("42");
                    let done = harness.after_event(id, 0, "ended").await;
                    assert_eq!((done.state, done.answer.as_deref()), (Done, Some("42")), "{point:?}");
                }
                Failed => assert_eq!((found.state, found.stop.as_deref()), (Failed, Some("lost")), "{point:?}"),
                state => assert_eq!(found.state, state, "{point:?}"),
            }
            assert_eq!(harness.event_kinds(id).await.last(), Some(&"ended"), "{point:?}");
            assert!(harness.no_run_is_waiting().await, "{point:?}: nothing is run twice");
        });
        process.kill();
    }
}

#[tokio::test]
async fn a_silent_runner_loses_its_task_and_one_that_waits_for_a_person_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), ServiceConfig { workers: 3, lease_seconds: 4, ..config() }, OnCancel::Ignores).await;
    let asks = harness.submit(submission("asks")).await;
    let asking = harness.next_run().await;
    let handle = asking.handle.clone();
    let decision = tokio::spawn(async move { handle.request_approval(approval_request()).await });
    harness.after_event(&asks.id, 0, "approval_requested").await;

    let acts = harness.submit(submission("acts")).await;
    let acting = harness.next_run().await;
    acting.handle.mark_acted().await.unwrap();
    let reads = harness.submit(submission("reads")).await;
    let reading = harness.next_run().await;

    let interrupted = harness.after_event(&acts.id, 0, "interrupted").await;
    assert!(interrupted.reason.as_ref().unwrap().contains("silent for 4 s"), "{interrupted:?}");
    let again = harness.next_run().await;
    assert_eq!((&again.record.id, again.record.attempts), (&reads.id, 2));
    // The runners that lost their tasks can write nothing any more.
    assert!(matches!(reading.handle.mark_acted().await, Err(Error::Lost(_))));
    assert!(matches!(acting.handle.set_episode("e").await, Err(Error::Lost(_))));
    reading.handle.emit(step(7));
    again.answer("42");
    let done = harness.after_event(&reads.id, 0, "ended").await;
    assert!(!done.acted && !harness.event_kinds(&reads.id).await.contains(&"step"));

    assert_eq!(harness.service.get(&asks.id).await.unwrap().state, TaskState::NeedsApproval);
    harness.service.approve(&asks.id, None).await.unwrap();
    decision.await.unwrap().unwrap();
    asking.answer("42");
    assert_eq!(state(&harness.after_event(&asks.id, 0, "ended").await), (TaskState::Done, 1));
}

#[tokio::test]
async fn a_runner_with_heartbeats_keeps_its_task() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), ServiceConfig { workers: 2, lease_seconds: 4, ..config() }, OnCancel::Ignores).await;
    let lives = harness.submit(submission("lives")).await;
    let living = harness.next_run().await;
    let silent = harness.submit(submission("silent")).await;
    let _silent = harness.next_run().await;
    let handle = living.handle.clone();
    let beats = tokio::spawn(async move {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            every.tick().await;
            handle.heartbeat();
        }
    });
    harness.after_event(&silent.id, 1, "queued").await;
    beats.abort();
    assert_eq!(state(&harness.service.get(&lives.id).await.unwrap()), (TaskState::Running, 1));
}

#[tokio::test]
async fn every_failure_and_stop_leads_to_its_state() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), ServiceConfig { max_attempts: 2, ..config() }, OnCancel::Ignores).await;
    let transient = || Err(RunFailure::Transient("no browser".into()));
    let permanent = || Err(RunFailure::Permanent("no such profile".into()));
    let stopped = |stop| Ok(super::harness::report(stop, None));
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
        let record = harness.submit(submission("x")).await;
        for result in results {
            let run = harness.next_run().await;
            if acts {
                run.handle.mark_acted().await.unwrap();
            }
            run.end.send(result).unwrap();
        }
        let last = if expected.is_final() { "ended" } else { "interrupted" };
        let found = harness.after_event(&record.id, 0, last).await;
        assert_eq!((found.state, found.stop.as_deref()), (expected, stop), "{found:?}");
        assert_eq!(found.ended_at.is_some(), expected.is_final());
    }
}

#[tokio::test]
async fn a_task_whose_runner_panics_is_tried_again_and_then_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), config(), OnCancel::Ignores).await;
    let record = harness.submit(submission(PANICKING_GOAL)).await;
    let failed = harness.after_event(&record.id, 0, "ended").await;
    assert_eq!((state(&failed), failed.stop.as_deref()), ((TaskState::Failed, 3), Some("lost")));
    assert!(failed.reason.unwrap().contains("given up after 3 attempts; the last one: its runner broke"));
    harness.submit(submission("the worker lives on")).await;
    harness.next_run().await.answer("42");
}

#[tokio::test]
async fn only_one_process_can_use_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), config(), OnCancel::Ends).await;
    let ports = milepost_service::Ports {
        runner: std::sync::Arc::new(NoPorts),
        episodes: harness.episodes.clone(),
        webhook_sender: std::sync::Arc::new(NoPorts),
    };
    let second = milepost_service::Service::open(directory.path(), config(), ports).await;
    assert!(matches!(second.err(), Some(Error::InUse(_))));
}

/// Ports that do nothing.
struct NoPorts;

#[async_trait::async_trait]
impl milepost_service::Runner for NoPorts {
    async fn run(&self, _: milepost_service::Job) -> Result<milepost_service::Report, RunFailure> {
        Err(RunFailure::Permanent("nobody".into()))
    }
}

#[async_trait::async_trait]
impl milepost_service::WebhookSender for NoPorts {
    async fn send(&self, _: &milepost_service::WebhookRequest) -> Result<u16, String> {
        Err("nobody".into())
    }
}
