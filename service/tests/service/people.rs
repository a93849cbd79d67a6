//! The operations of people on a task: approving and denying, sending messages, cancelling, giving feedback.

use milepost_runtime::{Episode, EpisodeStore, Stop, store::TrainingQuery};
use milepost_service::{CancelCause, Decision, Error, ServiceConfig, TaskState};

use super::harness::{Harness, OnCancel, approval_request, config, report, submission};

async fn open(config: ServiceConfig, on_cancel: OnCancel) -> (tempfile::TempDir, Harness) {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), config, on_cancel).await;
    (directory, harness)
}

#[tokio::test]
async fn a_task_that_waits_for_a_person_frees_its_worker() {
    let (_directory, harness) = open(config(), OnCancel::Ignores).await;
    for (approve, note) in [(true, None), (false, Some("not there"))] {
        let record = harness.submit(submission("asks")).await;
        let asking = harness.next_run().await;
        let handle = asking.handle.clone();
        let decision = tokio::spawn(async move { handle.request_approval(approval_request()).await });
        let waiting = harness.after_event(&record.id, 0, "approval_requested").await;
        assert_eq!((waiting.state, waiting.approval), (TaskState::NeedsApproval, Some(approval_request())));

        let other = harness.submit(submission("other")).await;
        let running = harness.next_run().await;
        assert_eq!(running.record.id, other.id);
        let decided = match approve {
            true => harness.service.approve(&record.id, note).await.unwrap(),
            false => harness.service.deny(&record.id, note).await.unwrap(),
        };
        assert_eq!((decided.state, decided.approval), (TaskState::Running, None));
        assert!(matches!(harness.service.approve(&record.id, None).await, Err(Error::Conflict { .. })), "one decision counts");
        // The run continues only when a worker is free again.
        assert!(!decision.is_finished());
        running.answer("42");
        let note = note.map(str::to_owned);
        let expected = if approve { Decision::Approved(note) } else { Decision::Denied(note) };
        assert_eq!(decision.await.unwrap().unwrap(), expected);
        asking.answer("42");
        assert_eq!(harness.after_event(&record.id, 0, "ended").await.state, TaskState::Done);
        let word = if approve { "approved" } else { "denied" };
        assert_eq!(harness.event_kinds(&record.id).await, ["queued", "started", "approval_requested", word, "ended"]);
    }
}

#[tokio::test]
async fn beyond_the_waiting_limit_a_waiting_task_keeps_its_worker() {
    let (_directory, harness) = open(ServiceConfig { waiting_limit: 0, ..config() }, OnCancel::Ignores).await;
    let record = harness.submit(submission("asks")).await;
    let asking = harness.next_run().await;
    let handle = asking.handle.clone();
    let decision = tokio::spawn(async move { handle.request_approval(approval_request()).await });
    harness.after_event(&record.id, 0, "approval_requested").await;
    harness.submit(submission("other")).await;
    harness.service.approve(&record.id, None).await.unwrap();
    decision.await.unwrap().unwrap();
    assert!(harness.no_run_is_waiting().await, "the other one has not started");
    asking.answer("42");
    harness.next_run().await.answer("42");
}

#[tokio::test]
async fn cancelling_ends_a_task_in_every_state() {
    for on_cancel in [OnCancel::Ends, OnCancel::Ignores] {
        let (_directory, harness) = open(config(), on_cancel).await;
        let (running, queued) = (harness.submit(submission("runs")).await, harness.submit(submission("waits")).await);
        let run = harness.next_run().await;
        run.handle.mark_acted().await.unwrap();
        assert_eq!(harness.service.cancel(&queued.id).await.unwrap().state, TaskState::Cancelled);
        let told = harness.service.cancel(&running.id).await.unwrap();
        assert!(told.cancel_requested && !told.state.is_final());
        harness.service.cancel(&running.id).await.unwrap();
        assert_eq!(harness.after_event(&running.id, 0, "ended").await.state, TaskState::Cancelled, "also one that does not listen");
        assert_eq!(harness.event_kinds(&running.id).await, ["queued", "started", "cancel_requested", "ended"]);

        let asks = harness.submit(submission("asks")).await;
        let run = harness.next_run().await;
        let handle = run.handle.clone();
        let decision = tokio::spawn(async move { handle.request_approval(approval_request()).await });
        harness.after_event(&asks.id, 0, "approval_requested").await;
        harness.service.cancel(&asks.id).await.unwrap();
        assert_eq!(decision.await.unwrap().unwrap(), Decision::Ended(CancelCause::Cancelled));
        assert_eq!(harness.after_event(&asks.id, 0, "ended").await.state, TaskState::Cancelled);
        assert_eq!(harness.service.cancel(&asks.id).await.unwrap().state, TaskState::Cancelled);

        let done = harness.submit(submission("done")).await;
        harness.next_run().await.answer("42");
        harness.after_event(&done.id, 0, "ended").await;
        let error = harness.service.cancel(&done.id).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { state: TaskState::Done, .. }), "{error}");
        assert!(matches!(harness.service.cancel("none").await, Err(Error::NotFound(_))));
    }
}

#[tokio::test]
async fn each_attempt_gets_every_message_once() {
    let (_directory, harness) = open(config(), OnCancel::Ignores).await;
    harness.service.pause();
    let record = harness.submit(submission("x")).await;
    harness.service.message(&record.id, "early").await.unwrap();
    harness.service.unpause();
    let run = harness.next_run().await;
    assert_eq!(run.handle.take_messages(), ["early"]);
    harness.service.message(&record.id, " late ").await.unwrap();
    assert_eq!((run.handle.take_messages(), run.handle.take_messages()), (vec!["late".to_owned()], Vec::new()));
    run.end.send(Err(milepost_service::RunFailure::Transient("no browser".into()))).unwrap();
    let run = harness.next_run().await;
    assert_eq!(run.handle.take_messages(), ["early", "late"]);
    run.answer("42");
    harness.after_event(&record.id, 0, "ended").await;
    assert!(matches!(harness.service.message(&record.id, "too late").await, Err(Error::Conflict { .. })));
    assert!(matches!(harness.service.message(&record.id, " ").await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn feedback_makes_an_episode_trainable() {
    let (_directory, harness) = open(config(), OnCancel::Ignores).await;
    let record = harness.submit(submission("x")).await;
    let run = harness.next_run().await;
    assert!(matches!(harness.service.feedback(&record.id, true, None).await, Err(Error::Conflict { .. })), "it has not ended");
    let task = run.record.submission.task(&record.id, &Default::default()).unwrap();
    let mut episode = Episode::begin(task, "adaplan", "g");
    harness.episodes.begin(&episode).await.unwrap();
    run.handle.set_episode(&episode.id).await.unwrap();
    assert_eq!(harness.service.get(&record.id).await.unwrap().episode.as_deref(), Some(episode.id.as_str()));
    (episode.stop, episode.ended_at) = (Some(Stop::Answered), Some(chrono::Utc::now()));
    harness.episodes.end(&episode).await.unwrap();
    run.end.send(Ok(report(Stop::Answered, Some("42")))).unwrap();
    harness.after_event(&record.id, 0, "ended").await;

    let trainable = async || harness.episodes.trainable(&TrainingQuery::default()).await.unwrap();
    assert!(trainable().await.is_empty());
    let judged = harness.service.feedback(&record.id, false, Some("the wrong mug")).await.unwrap();
    assert_eq!((judged.success, judged.feedback.unwrap().note.as_deref()), (Some(false), Some("the wrong mug")));
    assert_eq!(trainable().await, [episode.id]);
}

/// The database is locked by another process for longer than the service waits.
#[tokio::test]
async fn a_decision_that_cannot_be_recorded_does_not_reach_the_run() {
    let (directory, harness) = open(config(), OnCancel::Ignores).await;
    let record = harness.submit(submission("asks")).await;
    let asking = harness.next_run().await;
    let handle = asking.handle.clone();
    let decision = tokio::spawn(async move { handle.request_approval(approval_request()).await });
    harness.after_event(&record.id, 0, "approval_requested").await;

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.path().join("service.sqlite"));
    let mut locking = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut locking).await.unwrap();
    let (approved, message) = tokio::join!(harness.service.approve(&record.id, None), harness.service.message(&record.id, "go on"));
    assert!(matches!(approved, Err(Error::Store { .. })) && message.is_err(), "{approved:?}");
    assert!(!decision.is_finished() && asking.handle.take_messages().is_empty());
    assert!(harness.service.write_failure().is_some());
    sqlx::query("ROLLBACK").execute(&mut locking).await.unwrap();

    assert_eq!(harness.service.get(&record.id).await.unwrap().state, TaskState::NeedsApproval);
    harness.service.approve(&record.id, None).await.unwrap();
    assert_eq!(decision.await.unwrap().unwrap(), Decision::Approved(None));
    assert_eq!(harness.event_kinds(&record.id).await, ["queued", "started", "approval_requested", "approved"]);
    asking.answer("42");
}
