//! People in the loop: deciding, saying something, cancelling, judging afterwards.

use milepost_runtime::{Episode, EpisodeStore, Stop, store::TrainingQuery};
use milepost_service::{Cause, Decision, Error, ServiceConfig, TaskState};

use super::recovery::request;
use super::stage::{Manners, Stage, config, report, task};

async fn stage(config: ServiceConfig, manners: Manners) -> (tempfile::TempDir, Stage) {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), config, manners).await;
    (directory, stage)
}

#[tokio::test]
async fn a_task_that_waits_for_a_person_leaves_its_worker_to_others() {
    let (_directory, stage) = stage(config(), Manners::Deaf).await;
    for (approve, note) in [(true, None), (false, Some("not there"))] {
        let record = stage.submit(task("asks")).await;
        let asking = stage.run().await;
        let desk = asking.desk.clone();
        let decision = tokio::spawn(async move { desk.ask(request()).await });
        let waiting = stage.after(&record.id, 0, "approval_requested").await;
        assert_eq!((waiting.state, waiting.approval), (TaskState::NeedsApproval, Some(request())));

        let other = stage.submit(task("other")).await;
        let running = stage.run().await;
        assert_eq!(running.record.id, other.id);
        let decided = match approve {
            true => stage.service.approve(&record.id, note).await.unwrap(),
            false => stage.service.deny(&record.id, note).await.unwrap(),
        };
        assert_eq!((decided.state, decided.approval), (TaskState::Running, None));
        assert!(matches!(stage.service.approve(&record.id, None).await, Err(Error::Conflict { .. })), "one decision counts");
        // It goes on when there is a place again.
        assert!(!decision.is_finished());
        running.answer("42");
        let note = note.map(str::to_owned);
        let expected = if approve { Decision::Approved(note) } else { Decision::Denied(note) };
        assert_eq!(decision.await.unwrap().unwrap(), expected);
        asking.answer("42");
        assert_eq!(stage.after(&record.id, 0, "ended").await.state, TaskState::Done);
        let word = if approve { "approved" } else { "denied" };
        assert_eq!(stage.words(&record.id).await, ["queued", "started", "approval_requested", word, "ended"]);
    }
}

#[tokio::test]
async fn beyond_the_rooms_a_waiting_task_keeps_its_worker() {
    let (_directory, stage) = stage(ServiceConfig { waiting_limit: 0, ..config() }, Manners::Deaf).await;
    let record = stage.submit(task("asks")).await;
    let asking = stage.run().await;
    let desk = asking.desk.clone();
    let decision = tokio::spawn(async move { desk.ask(request()).await });
    stage.after(&record.id, 0, "approval_requested").await;
    stage.submit(task("other")).await;
    stage.service.approve(&record.id, None).await.unwrap();
    decision.await.unwrap().unwrap();
    assert!(stage.idle().await, "the other one has not started");
    asking.answer("42");
    stage.run().await.answer("42");
}

#[tokio::test]
async fn cancelling_ends_a_task_wherever_it_stands() {
    for manners in [Manners::Obedient, Manners::Deaf] {
        let (_directory, stage) = stage(config(), manners).await;
        let (running, queued) = (stage.submit(task("runs")).await, stage.submit(task("waits")).await);
        let run = stage.run().await;
        run.desk.acted().await.unwrap();
        assert_eq!(stage.service.cancel(&queued.id).await.unwrap().state, TaskState::Cancelled);
        let told = stage.service.cancel(&running.id).await.unwrap();
        assert!(told.cancel_requested && !told.state.is_final());
        stage.service.cancel(&running.id).await.unwrap();
        assert_eq!(stage.after(&running.id, 0, "ended").await.state, TaskState::Cancelled, "also one that does not listen");
        assert_eq!(stage.words(&running.id).await, ["queued", "started", "cancel_requested", "ended"]);

        let asks = stage.submit(task("asks")).await;
        let run = stage.run().await;
        let desk = run.desk.clone();
        let decision = tokio::spawn(async move { desk.ask(request()).await });
        stage.after(&asks.id, 0, "approval_requested").await;
        stage.service.cancel(&asks.id).await.unwrap();
        assert_eq!(decision.await.unwrap().unwrap(), Decision::Ended(Cause::Cancelled));
        assert_eq!(stage.after(&asks.id, 0, "ended").await.state, TaskState::Cancelled);
        assert_eq!(stage.service.cancel(&asks.id).await.unwrap().state, TaskState::Cancelled);

        let done = stage.submit(task("done")).await;
        stage.run().await.answer("42");
        stage.after(&done.id, 0, "ended").await;
        let error = stage.service.cancel(&done.id).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { state: TaskState::Done, .. }), "{error}");
        assert!(matches!(stage.service.cancel("none").await, Err(Error::NotFound(_))));
    }
}

#[tokio::test]
async fn messages_are_heard_once_and_again_by_the_next_attempt() {
    let (_directory, stage) = stage(config(), Manners::Deaf).await;
    stage.service.pause();
    let record = stage.submit(task("x")).await;
    stage.service.message(&record.id, "early").await.unwrap();
    stage.service.proceed();
    let run = stage.run().await;
    assert_eq!(run.desk.messages(), ["early"]);
    stage.service.message(&record.id, " late ").await.unwrap();
    assert_eq!((run.desk.messages(), run.desk.messages()), (vec!["late".to_owned()], Vec::new()));
    run.end.send(Err(milepost_service::RunFailure::Transient("no browser".into()))).unwrap();
    let run = stage.run().await;
    assert_eq!(run.desk.messages(), ["early", "late"]);
    run.answer("42");
    stage.after(&record.id, 0, "ended").await;
    assert!(matches!(stage.service.message(&record.id, "too late").await, Err(Error::Conflict { .. })));
    assert!(matches!(stage.service.message(&record.id, " ").await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn feedback_makes_an_episode_one_to_learn_from() {
    let (_directory, stage) = stage(config(), Manners::Deaf).await;
    let record = stage.submit(task("x")).await;
    let run = stage.run().await;
    assert!(matches!(stage.service.feedback(&record.id, true, None).await, Err(Error::Conflict { .. })), "it has not ended");
    let task = run.record.submission.task(&record.id, &Default::default()).unwrap();
    let mut episode = Episode::begin(task, "adaplan", "g");
    stage.episodes.begin(&episode).await.unwrap();
    run.desk.episode(&episode.id).await.unwrap();
    assert_eq!(stage.service.get(&record.id).await.unwrap().episode.as_deref(), Some(episode.id.as_str()));
    (episode.stop, episode.ended_at) = (Some(Stop::Answered), Some(chrono::Utc::now()));
    stage.episodes.end(&episode).await.unwrap();
    run.end.send(Ok(report(Stop::Answered, Some("42")))).unwrap();
    stage.after(&record.id, 0, "ended").await;

    let trainable = async || stage.episodes.trainable(&TrainingQuery::default()).await.unwrap();
    assert!(trainable().await.is_empty());
    let judged = stage.service.feedback(&record.id, false, Some("the wrong mug")).await.unwrap();
    assert_eq!((judged.success, judged.feedback.unwrap().note.as_deref()), (Some(false), Some("the wrong mug")));
    assert_eq!(trainable().await, [episode.id]);
}
