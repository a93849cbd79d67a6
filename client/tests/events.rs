//! Tests the client against a server that answers as the daemon does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use milepost_client::{Api, ClientError, Events, Followed};
use serde_json::json;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

fn event(seq: u64, kind: &str) -> String {
    let event =
        json!({ "position": 10 + seq, "task": "t", "seq": seq, "at": "2026-01-01T00:00:00Z", "kind": kind, "data": { "text": "é" } });
    format!("id: {seq}\nevent: {kind}\ndata: {event}\n\n")
}

/// Serves this stream once, to a request for the events after number `after`.
async fn serve_events(server: &MockServer, after: u64, body: &str) {
    Mock::given(method("GET"))
        .and(path("/v1/tasks/t/events"))
        .and(header("last-event-id", after.to_string()))
        .respond_with(ResponseTemplate::new(200).set_body_raw(body.as_bytes(), "text/event-stream"))
        .up_to_n_times(1)
        .mount(server)
        .await;
}

async fn serve_task(server: &MockServer, last_seq: u64, ended: bool) {
    let task =
        json!({ "id": "t", "state": "done", "goal": "g", "last_seq": last_seq, "ended_at": ended.then_some("2026-01-01T00:00:00Z") });
    Mock::given(method("GET")).and(path("/v1/tasks/t")).respond_with(ResponseTemplate::new(200).set_body_json(task)).mount(server).await;
}

fn api(server: &MockServer) -> Api {
    Api::new(server.uri().parse().unwrap(), "token\n").unwrap()
}

#[tokio::test]
async fn events_arrive_once_and_in_order_through_a_connection_that_breaks() {
    let server = MockServer::start().await;
    serve_task(&server, 3, false).await;
    // The first connection begins with a byte order mark and a comment, and ends within the second event.
    let cut = &event(2, "step")[..30];
    serve_events(&server, 0, &format!("\u{feff}: hello\n\n{}{cut}", event(1, "queued"))).await;
    serve_events(&server, 1, &format!("{}: alive\r\n\r\n{}", event(2, "step"), event(3, "ended"))).await;
    let mut events = Events::new(&api(&server), Followed::Task("t".into()), 0);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        assert_eq!(event.data["text"], "é");
        seen.push((event.seq, event.kind));
    }
    assert_eq!(seen, [(1, "queued".to_owned()), (2, "step".to_owned()), (3, "ended".to_owned())]);
    assert_eq!(events.next().await.unwrap(), None, "nothing follows the last event");
}

#[tokio::test]
async fn a_task_that_ended_before_the_number_has_no_event_left() {
    let server = MockServer::start().await;
    serve_task(&server, 3, true).await;
    serve_events(&server, 3, ": alive\n\n").await;
    assert_eq!(Events::new(&api(&server), Followed::Task("t".into()), 3).next().await.unwrap(), None);
}

#[tokio::test]
async fn a_refusal_has_the_daemons_explanation() {
    let server = MockServer::start().await;
    let problem = ResponseTemplate::new(404).set_body_json(json!({ "status": 404, "detail": "there is no task t" }));
    Mock::given(method("GET")).respond_with(problem).mount(&server).await;
    let error = Events::new(&api(&server), Followed::Task("t".into()), 0).next().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { status: 404, .. }) && error.to_string() == "there is no task t", "{error}");
}
