//! What waits, in which order it starts, and what is refused.

use chrono::{TimeDelta, Utc};
use milepost_service::{Error, Filter, ServiceConfig, Submission, TaskState};

use super::stage::{Manners, Stage, config, task};

async fn stage(config: ServiceConfig) -> (tempfile::TempDir, Stage) {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), config, Manners::Obedient).await;
    (directory, stage)
}

fn with(goal: &str, change: impl FnOnce(&mut Submission)) -> Submission {
    let mut submission = task(goal);
    change(&mut submission);
    submission
}

/// Lets all queued tasks run, one after the other, and returns their goals in the order of their starts.
async fn order(stage: &Stage, count: usize) -> Vec<String> {
    let mut goals = Vec::new();
    for _ in 0..count {
        let run = stage.run().await;
        goals.push(run.record.submission.goal.clone());
        run.answer("42");
    }
    goals
}

#[tokio::test]
async fn priorities_go_first_and_then_the_oldest() {
    let (_directory, stage) = stage(config()).await;
    stage.service.pause();
    for (goal, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)] {
        stage.submit(with(goal, |task| task.priority = priority)).await;
    }
    assert_eq!(stage.service.load().waiting, 5);
    assert!(stage.idle().await);
    stage.service.proceed();
    assert_eq!(order(&stage, 5).await, ["b", "d", "a", "c", "e"]);
    assert_eq!(stage.service.load().waiting, 0);
}

#[tokio::test]
async fn the_same_key_and_body_are_the_same_task() {
    let (_directory, stage) = stage(config()).await;
    stage.service.pause();
    let keyed = |goal: &str| with(goal, |task| task.idempotency_key = Some("k".into()));
    let first = stage.service.submit("ana", keyed("x")).await.unwrap();
    let again = stage.service.submit("ana", keyed("x")).await.unwrap();
    assert_eq!((first.repeated, again.repeated, &first.record.id), (false, true, &again.record.id));
    let other = stage.service.submit("ben", keyed("x")).await.unwrap();
    assert!(!other.repeated && other.record.id != first.record.id, "keys are the caller's own");
    let error = stage.service.submit("ana", keyed("y")).await.unwrap_err();
    assert!(matches!(&error, Error::KeyReused { task, .. } if *task == first.record.id), "{error}");
    stage.service.cancel(&first.record.id).await.unwrap();
    assert!(stage.service.submit("ana", keyed("x")).await.unwrap().repeated, "also after it ended");

    // Requests that race are one task, too.
    let race = futures_util::future::join_all((0..20).map(|_| stage.service.submit("eve", keyed("x")))).await;
    let ids: std::collections::BTreeSet<String> = race.into_iter().map(|done| done.unwrap().record.id).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let limits = ServiceConfig { queue_limit: 3, per_caller_queued: 2, retry_after_seconds: 7, ..config() };
    let (_directory, stage) = stage(limits).await;
    stage.service.pause();
    let keyed = || with("first", |task| task.idempotency_key = Some("k".into()));
    stage.submit(keyed()).await;
    stage.submit(task("second")).await;
    let error = stage.service.submit("ana", task("third")).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { limit: 2, retry_after: 7, .. }), "{error}");
    stage.service.submit("ben", task("third")).await.unwrap();
    let error = stage.service.submit("eve", task("fourth")).await.unwrap_err();
    assert!(matches!(error, Error::Full { limit: 3, retry_after: 7 }), "{error}");
    assert!(stage.service.submit("ana", keyed()).await.unwrap().repeated, "a repeated request is no new task");
    stage.service.proceed();
    order(&stage, 3).await;
    stage.submit(task("later")).await;
}

#[tokio::test]
async fn one_caller_does_not_take_all_workers() {
    let (_directory, stage) = stage(ServiceConfig { workers: 3, per_caller_running: 2, ..config() }).await;
    stage.service.pause();
    for goal in ["a1", "a2", "a3"] {
        stage.submit(task(goal)).await;
    }
    stage.service.submit("ben", task("b1")).await.unwrap();
    stage.service.proceed();
    let runs = [stage.run().await, stage.run().await, stage.run().await];
    let goals: Vec<&str> = runs.iter().map(|run| run.record.submission.goal.as_str()).collect();
    assert_eq!(goals, ["a1", "a2", "b1"]);
    let [first, ..] = runs;
    first.answer("42");
    assert_eq!(stage.run().await.record.submission.goal, "a3");
}

#[tokio::test]
async fn a_profile_is_one_tasks_at_a_time_and_others_overtake() {
    let (_directory, stage) = stage(ServiceConfig { workers: 3, per_caller_running: 3, ..config() }).await;
    let mail = |goal: &str| with(goal, |task| task.profile = Some("mail".into()));
    let first = stage.submit(mail("first")).await;
    let holder = stage.run().await;
    stage.submit(mail("second")).await;
    stage.submit(task("other")).await;
    let other = stage.run().await;
    assert_eq!(other.record.submission.goal, "other");
    let leases = stage.service.profiles().await.unwrap();
    assert_eq!(leases.iter().map(|lease| (lease.profile.as_str(), &lease.task)).collect::<Vec<_>>(), [("mail", &first.id)]);

    // Whoever waits for a person keeps the profile: it goes on where it was.
    let desk = holder.desk.clone();
    tokio::spawn(async move { desk.ask(super::recovery::request()).await });
    stage.after(&first.id, 0, "approval_requested").await;
    other.answer("42");
    stage.after(&first.id, 0, "approval_requested").await;
    assert!(stage.idle().await);
    holder.answer("42");
    assert_eq!(stage.run().await.record.submission.goal, "second");
}

#[tokio::test]
async fn a_deadline_ends_what_waits_and_what_runs() {
    let (_directory, stage) = stage(config()).await;
    let soon = || Some(Utc::now() + TimeDelta::milliseconds(400));
    let running = stage.submit(with("runs", |task| task.deadline = soon())).await;
    let _run = stage.run().await;
    let waiting = stage.submit(with("waits", |task| task.deadline = soon())).await;
    for task in [running, waiting] {
        let ended = stage.after(&task.id, 0, "ended").await;
        assert_eq!((ended.state, ended.stop.as_deref()), (TaskState::Failed, Some("deadline")), "{}", task.submission.goal);
    }
    let late = with("late", |task| task.deadline = Some(Utc::now() - TimeDelta::seconds(1)));
    assert!(matches!(stage.service.submit("ana", late).await, Err(Error::Invalid { field: "deadline", .. })));
}

#[tokio::test]
async fn what_no_task_can_have_is_refused_with_its_field() {
    let (_directory, stage) = stage(config()).await;
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
        match stage.service.submit("ana", with("x", spoil)).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(serde_json::from_str::<Submission>(r#"{"goal":"x","url":"http://a.local/","sudo":true}"#).is_err());
}

#[tokio::test]
async fn listings_go_page_by_page_newest_first() {
    let (_directory, stage) = stage(config()).await;
    stage.service.pause();
    for number in 0..7 {
        stage.service.submit(if number % 2 == 0 { "ana" } else { "ben" }, task(&number.to_string())).await.unwrap();
    }
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = stage.service.list(&Filter::default(), cursor.as_deref(), 3).await.unwrap();
        seen.extend(page.tasks.into_iter().map(|task| task.submission.goal));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["6", "5", "4", "3", "2", "1", "0"]);
    let own = Filter { caller: Some("ben".into()), state: Some(TaskState::Queued) };
    assert_eq!(stage.service.list(&own, None, 50).await.unwrap().tasks.len(), 3);
    let none = Filter { state: Some(TaskState::Done), ..Filter::default() };
    assert!(stage.service.list(&none, None, 50).await.unwrap().tasks.is_empty());
    assert!(matches!(stage.service.list(&none, Some("x"), 50).await, Err(Error::Invalid { field: "cursor", .. })));
    let stats = stage.service.stats().await.unwrap();
    assert_eq!((stats.tasks[&TaskState::Queued], stats.busy, stats.workers, stats.paused), (7, 0, 1, true));
    assert!(stats.oldest_waiting_seconds.is_some());
}
