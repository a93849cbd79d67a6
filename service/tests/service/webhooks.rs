//! Webhooks: signed, tried again, and not lost with the process.

use milepost_service::{SIGNATURE_HEADER, ServiceConfig, TIMESTAMP_HEADER, WebhookConfig, signature};
use serde_json::Value;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::recovery::request;
use super::stage::{Manners, Process, Stage, config, task};

fn impatient(attempts: u32) -> ServiceConfig {
    ServiceConfig { webhooks: WebhookConfig { attempts, backoff_seconds: 0, ..WebhookConfig::default() }, ..config() }
}

fn hooked(server: &MockServer) -> milepost_service::Submission {
    let mut submission = task("x");
    submission.webhook = Some(format!("{}/hook", server.uri()).parse().unwrap());
    submission
}

/// Waits until the outbox is empty of what is still to be tried.
async fn delivered(stage: &Stage, server: &MockServer, at_least: usize) -> Vec<Request> {
    let done = async {
        loop {
            let requests = server.received_requests().await.unwrap();
            if requests.len() >= at_least && stage.service.stats().await.unwrap().webhooks_pending == 0 {
                return requests;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), done).await.expect("not delivered")
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[tokio::test]
async fn a_webhook_is_signed_and_tried_until_it_arrives() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).up_to_n_times(2).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), impatient(5), Manners::Deaf).await;
    let record = stage.submit(hooked(&server)).await;
    let run = stage.run().await;
    let desk = run.desk.clone();
    let decision = tokio::spawn(async move { desk.ask(request()).await });
    stage.after(&record.id, 0, "approval_requested").await;
    let asked = delivered(&stage, &server, 3).await;
    stage.service.approve(&record.id, None).await.unwrap();
    decision.await.unwrap().unwrap();
    run.answer("42");
    let all = delivered(&stage, &server, 4).await;

    assert_eq!(asked.iter().map(|request| body(request)["id"].clone()).collect::<std::collections::HashSet<_>>().len(), 1);
    let told: Vec<Value> = all.iter().map(|request| body(request)["event"].clone()).collect();
    assert_eq!(told, ["approval_requested", "approval_requested", "approval_requested", "ended"]);
    assert_eq!((&body(&all[3])["task"]["id"], &body(&all[3])["task"]["answer"]), (&record.id.clone().into(), &"42".into()));
    for request in &all {
        let timestamp = request.headers[TIMESTAMP_HEADER].to_str().unwrap().parse().unwrap();
        let expected = signature(stage.service.webhook_key(), timestamp, std::str::from_utf8(&request.body).unwrap());
        assert_eq!(request.headers[SIGNATURE_HEADER].to_str().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_webhook_is_given_up_in_the_end() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::open(directory.path(), impatient(3), Manners::Deaf).await;
    stage.submit(hooked(&server)).await;
    stage.run().await.answer("42");
    assert_eq!(delivered(&stage, &server, 3).await.len(), 3);
}

#[test]
fn a_webhook_outlives_the_process() {
    let outside = tokio::runtime::Runtime::new().unwrap();
    let server = outside.block_on(MockServer::start());
    let directory = tempfile::tempdir().unwrap();
    let patient =
        ServiceConfig { webhooks: WebhookConfig { backoff_seconds: 0, attempts: u32::MAX, ..WebhookConfig::default() }, ..config() };
    let process = Process::start(directory.path(), patient.clone());
    // Nothing is mounted: every try is answered 404.
    process.within(async {
        let record = process.stage.submit(hooked(&server)).await;
        process.stage.run().await.answer("42");
        process.stage.after(&record.id, 0, "ended").await;
    });
    process.kill();
    outside.block_on(server.reset());
    outside.block_on(Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server));
    let process = Process::start(directory.path(), patient);
    let requests = process.within(delivered(&process.stage, &server, 1));
    assert_eq!((requests.len(), &body(&requests[0])["event"]), (1, &"ended".into()));
    process.kill();
}
