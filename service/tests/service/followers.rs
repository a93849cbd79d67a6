//! Event streams: each follower gets every event once and in order, also when it reconnects.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, future::join_all};
use milepost_service::{Service, ServiceConfig, TaskEvent, TaskState};

use super::harness::{Harness, OnCancel, config, seqs, step, submission};

/// Follows a task to its end, reconnecting after every `events_per_connection` events.
async fn follow(service: Service, id: String, events_per_connection: usize) -> Vec<Arc<TaskEvent>> {
    let mut events: Vec<Arc<TaskEvent>> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let batch: Vec<_> = service.events(&id, after).await.unwrap().take(events_per_connection).try_collect().await.unwrap();
        let ended = batch.len() < events_per_connection;
        events.extend(batch);
        if ended {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_followers_get_every_event_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    // The tail is short, so that followers who reconnect late read from the store.
    let harness = Harness::open(directory.path(), ServiceConfig { tail: 16, ..config() }, OnCancel::Ignores).await;
    let record = harness.submit(submission("x")).await;
    let run = harness.next_run().await;
    let events_per_connection = |n: usize| [usize::MAX, 17, 50, 120][n % 4];
    let early: Vec<_> =
        (0..700).map(|n| tokio::spawn(follow(harness.service.clone(), record.id.clone(), events_per_connection(n)))).collect();
    for turn in 0..100 {
        run.handle.emit(step(turn));
        if turn % 10 == 0 {
            run.handle.mark_acted().await.unwrap();
            harness.service.message(&record.id, "go on").await.unwrap();
        }
    }
    let late: Vec<_> =
        (0..300).map(|n| tokio::spawn(follow(harness.service.clone(), record.id.clone(), events_per_connection(n)))).collect();
    for turn in 100..200 {
        run.handle.emit(step(turn));
    }
    run.answer("42");
    let all = follow(harness.service.clone(), record.id.clone(), usize::MAX).await;
    assert_eq!(seqs(&all), (1..=213).collect::<Vec<u64>>(), "queued, started, 200 steps, 10 messages, ended");
    let turns: Vec<u32> = all
        .iter()
        .filter_map(|event| match event.kind {
            milepost_service::EventKind::Step { turn, .. } => Some(turn),
            _ => None,
        })
        .collect();
    assert_eq!(turns, (0..200).collect::<Vec<u32>>());
    for follower in join_all(early.into_iter().chain(late)).await {
        assert_eq!(follower.unwrap(), all);
    }
    assert!(follow(harness.service.clone(), record.id.clone(), usize::MAX).await == all, "also long after the end");
    assert_eq!(harness.service.events(&record.id, 213).await.unwrap().count().await, 0);
}

#[tokio::test]
async fn the_events_of_all_tasks_are_one_stream() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), config(), OnCancel::Ignores).await;
    let live = harness.service.all_events(0);
    let mut expected = Vec::new();
    for goal in ["a", "b"] {
        let record = harness.submit(submission(goal)).await;
        harness.next_run().await.answer("42");
        harness.after_event(&record.id, 0, "ended").await;
        expected.extend(["queued", "started", "ended"].map(|word| (record.id.clone(), word)));
    }
    let told: Vec<_> = live.take(6).map(|event| event.map(|event| (event.task.clone(), event.kind.word())).unwrap()).collect().await;
    assert_eq!(told, expected);
    let recent = harness.service.recent_events(4).await.unwrap();
    assert_eq!(recent.iter().map(|event| event.kind.word()).collect::<Vec<_>>(), ["ended", "queued", "started", "ended"]);
    let rest: Vec<_> = harness.service.all_events(recent[1].position).take(2).try_collect().await.unwrap();
    assert_eq!(rest.iter().map(|event| (**event).clone()).collect::<Vec<_>>(), recent[2..]);
}

/// The daemon's protocols send events in this form.
#[tokio::test]
async fn an_event_is_flat_json() {
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), config(), OnCancel::Ignores).await;
    let record = harness.submit(submission("x")).await;
    harness.next_run().await.answer("42");
    assert_eq!(harness.after_event(&record.id, 0, "ended").await.state, TaskState::Done);
    for event in follow(harness.service.clone(), record.id.clone(), usize::MAX).await {
        let json = serde_json::to_value(&*event).unwrap();
        assert_eq!((json["kind"].as_str(), json["seq"].as_u64()), (Some(event.kind.word()), Some(event.seq)));
        assert_eq!(serde_json::from_value::<TaskEvent>(json).unwrap(), *event);
    }
}
