//! The queue: the order in which tasks start, and the submissions that are refused.

use chrono::{TimeDelta, Utc};
use milepost_service::{Error, ServiceConfig, Submission, TaskFilter, TaskState};

use super::harness::{Harness, OnCancel, REFUSED_GOAL, approval_request, config, submission};

async fn open(config: ServiceConfig) -> (tempfile::TempDir, Harness) {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), config, OnCancel::Ends).await;
    (directory, harness)
}

fn with(goal: &str, change: impl FnOnce(&mut Submission)) -> Submission {
    let mut submission = submission(goal);
    change(&mut submission);
    submission
}

/// Lets this many queued tasks run, one after the other, and returns their goals in the order of their starts.
async fn order(harness: &Harness, count: usize) -> Vec<String> {
    let mut goals = Vec::new();
    for _ in 0..count {
        let run = harness.next_run().await;
        goals.push(run.record.submission.goal.clone());
        run.answer("42");
    }
    goals
}

#[tokio::test]
async fn priorities_go_first_and_then_the_oldest() {
    let (_directory, harness) = open(config()).await;
    harness.service.pause();
    for (goal, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)] {
        harness.submit(with(goal, |task| task.priority = priority)).await;
    }
    assert_eq!(harness.service.load().waiting, 5);
    assert!(harness.no_run_is_waiting().await);
    harness.service.unpause();
    assert_eq!(order(&harness, 5).await, ["b", "d", "a", "c", "e"]);
    assert_eq!(harness.service.load().waiting, 0);
}

#[tokio::test]
async fn the_same_key_and_body_are_the_same_task() {
    let (_directory, harness) = open(config()).await;
    harness.service.pause();
    let keyed = |goal: &str| with(goal, |task| task.idempotency_key = Some("k".into()));
    let first = harness.service.submit("ana", keyed("x")).await.unwrap();
    let again = harness.service.submit("ana", keyed("x")).await.unwrap();
    assert_eq!((first.repeated, again.repeated, &first.record.id), (false, true, &again.record.id));
    let other = harness.service.submit("ben", keyed("x")).await.unwrap();
    assert!(!other.repeated && other.record.id != first.record.id, "keys are the caller's own");
    let error = harness.service.submit("ana", keyed("y")).await.unwrap_err();
    assert!(matches!(&error, Error::KeyReused { task, .. } if *task == first.record.id), "{error}");
    harness.service.cancel(&first.record.id).await.unwrap();
    assert!(harness.service.submit("ana", keyed("x")).await.unwrap().repeated, "also after it ended");

    // Concurrent requests make one task, too.
    let race = futures_util::future::join_all((0..20).map(|_| harness.service.submit("eve", keyed("x")))).await;
    let ids: std::collections::BTreeSet<String> = race.into_iter().map(|done| done.unwrap().record.id).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_try_again() {
    let limits = ServiceConfig { queue_limit: 3, per_caller_queued: 2, retry_after_seconds: 7, ..config() };
    let (_directory, harness) = open(limits).await;
    harness.service.pause();
    let keyed = || with("first", |task| task.idempotency_key = Some("k".into()));
    harness.submit(keyed()).await;
    harness.submit(submission("second")).await;
    let error = harness.service.submit("ana", submission("third")).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { limit: 2, retry_after: 7, .. }), "{error}");
    harness.service.submit("ben", submission("third")).await.unwrap();
    let error = harness.service.submit("eve", submission("fourth")).await.unwrap_err();
    assert!(matches!(error, Error::Full { limit: 3, retry_after: 7 }), "{error}");
    assert!(harness.service.submit("ana", keyed()).await.unwrap().repeated, "a repeated request is no new task");
    harness.service.unpause();
    order(&harness, 3).await;
    harness.submit(submission("later")).await;
}

#[tokio::test]
async fn one_caller_does_not_take_all_workers() {
    let (_directory, harness) = open(ServiceConfig { workers: 3, per_caller_running: 2, ..config() }).await;
    harness.service.pause();
    for goal in ["a1", "a2", "a3"] {
        harness.submit(submission(goal)).await;
    }
    harness.service.submit("ben", submission("b1")).await.unwrap();
    harness.service.unpause();
    let runs = [harness.next_run().await, harness.next_run().await, harness.next_run().await];
    let goals: Vec<&str> = runs.iter().map(|run| run.record.submission.goal.as_str()).collect();
    assert_eq!(goals, ["a1", "a2", "b1"]);
    let [first, ..] = runs;
    first.answer("42");
    assert_eq!(harness.next_run().await.record.submission.goal, "a3");
}

#[tokio::test]
async fn a_profile_is_used_by_one_task_at_a_time_and_other_tasks_overtake() {
    let (_directory, harness) = open(ServiceConfig { workers: 3, per_caller_running: 3, ..config() }).await;
    let mail = |goal: &str| with(goal, |task| task.profile = Some("mail".into()));
    let first = harness.submit(mail("first")).await;
    let holder = harness.next_run().await;
    harness.submit(mail("second")).await;
    harness.submit(submission("other")).await;
    let other = harness.next_run().await;
    assert_eq!(other.record.submission.goal, "other");
    let leases = harness.service.profiles().await.unwrap();
    assert_eq!(leases.iter().map(|lease| (lease.profile.as_str(), &lease.task)).collect::<Vec<_>>(), [("mail", &first.id)]);

    // A task that waits for a person keeps its profile, because its run continues afterwards.
    let handle = holder.handle.clone();
    tokio::spawn(async move { handle.request_approval(approval_request()).await });
    harness.after_event(&first.id, 0, "approval_requested").await;
    other.answer("42");
    harness.after_event(&first.id, 0, "approval_requested").await;
    assert!(harness.no_run_is_waiting().await);
    holder.answer("42");
    assert_eq!(harness.next_run().await.record.submission.goal, "second");
}

#[tokio::test]
async fn a_deadline_ends_queued_and_running_tasks() {
    let (_directory, harness) = open(config()).await;
    let soon = || Some(Utc::now() + TimeDelta::milliseconds(400));
    let running = harness.submit(with("runs", |task| task.deadline = soon())).await;
    let _run = harness.next_run().await;
    let waiting = harness.submit(with("waits", |task| task.deadline = soon())).await;
    for task in [running, waiting] {
        let ended = harness.after_event(&task.id, 0, "ended").await;
        assert_eq!((ended.state, ended.stop.as_deref()), (TaskState::Failed, Some("deadline")), "{}", task.submission.goal);
    }
    let late = with("late", |task| task.deadline = Some(Utc::now() - TimeDelta::seconds(1)));
    assert!(matches!(harness.service.submit("ana", late).await, Err(Error::Invalid { field: "deadline", .. })));
}

#[tokio::test]
async fn an_invalid_submission_is_refused_with_the_field() {
    let (_directory, harness) = open(config()).await;
    type Spoil = fn(&mut Submission);
    let cases: [(&str, Spoil); 9] = [
        ("goal or url", |task| task.goal = " ".into()),
        ("goal or url", |task| task.url = "file:///etc/passwd".parse().unwrap()),
        ("goal", |task| task.goal = "x".repeat(20_000)),
        ("check", |task| task.check = Some("looks fine".into())),
        ("priority", |task| task.priority = 101),
        ("limits", |task| task.limits.max_steps = Some(0)),
        ("webhook", |task| task.webhook = Some("ftp://x.local/".parse().unwrap())),
        ("profile", |task| task.profile = Some("../../etc".into())),
        ("secrets", |task| task.secrets = vec!["pass word".into()]),
    ];
    for (expected, spoil) in cases {
        match harness.service.submit("ana", with("x", spoil)).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(serde_json::from_str::<Submission>(r#"{"goal":"x","url":"http://a.local/","sudo":true}"#).is_err());
}

#[tokio::test]
async fn the_runner_checks_a_submission_only_when_it_is_asked() {
    let (_directory, harness) = open(config()).await;
    harness.service.pause();
    let refused = harness.service.check_submission(&submission(REFUSED_GOAL));
    assert_eq!(refused, Err("the runner refuses this goal".to_owned()));
    assert_eq!(harness.service.check_submission(&submission("x")), Ok(()));
    harness.submit(submission(REFUSED_GOAL)).await;
}

#[tokio::test]
async fn listings_go_page_by_page_newest_first() {
    let (_directory, harness) = open(config()).await;
    harness.service.pause();
    for number in 0..7 {
        harness.service.submit(if number % 2 == 0 { "ana" } else { "ben" }, submission(&number.to_string())).await.unwrap();
    }
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = harness.service.list(&TaskFilter::default(), cursor.as_deref(), 3).await.unwrap();
        seen.extend(page.tasks.into_iter().map(|task| task.submission.goal));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["6", "5", "4", "3", "2", "1", "0"]);
    let own = TaskFilter { caller: Some("ben".into()), state: Some(TaskState::Queued) };
    assert_eq!(harness.service.list(&own, None, 50).await.unwrap().tasks.len(), 3);
    let none = TaskFilter { state: Some(TaskState::Done), ..TaskFilter::default() };
    assert!(harness.service.list(&none, None, 50).await.unwrap().tasks.is_empty());
    assert!(matches!(harness.service.list(&none, Some("x"), 50).await, Err(Error::Invalid { field: "cursor", .. })));
    let stats = harness.service.stats().await.unwrap();
    assert_eq!((stats.tasks[&TaskState::Queued], stats.busy, stats.workers, stats.paused), (7, 0, 1, true));
    assert!(stats.oldest_waiting_seconds.is_some());
}
