//! Webhooks: they are signed, retried, and not lost when the process dies.

use milepost_service::{SIGNATURE_HEADER, ServiceConfig, TIMESTAMP_HEADER, WebhookConfig, signature};
use serde_json::Value;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::harness::{Harness, OnCancel, Process, approval_request, config, submission};

fn without_backoff(attempts: u32) -> ServiceConfig {
    ServiceConfig { webhooks: WebhookConfig { attempts, backoff_seconds: 0, ..WebhookConfig::default() }, ..config() }
}

fn submission_with_webhook(server: &MockServer) -> milepost_service::Submission {
    let mut submission = submission("x");
    submission.webhook = Some(format!("{}/hook", server.uri()).parse().unwrap());
    submission
}

/// Waits until the receiver has got `at_least` requests and no webhook is left to be attempted, and returns the requests.
async fn delivered(harness: &Harness, server: &MockServer, at_least: usize) -> Vec<Request> {
    let done = async {
        loop {
            let requests = server.received_requests().await.unwrap();
            if requests.len() >= at_least && harness.service.stats().await.unwrap().webhooks_pending == 0 {
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
async fn a_webhook_is_signed_and_retried_until_it_arrives() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).up_to_n_times(2).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), without_backoff(5), OnCancel::Ignores).await;
    let record = harness.submit(submission_with_webhook(&server)).await;
    let run = harness.next_run().await;
    let handle = run.handle.clone();
    let decision = tokio::spawn(async move { handle.request_approval(approval_request()).await });
    harness.after_event(&record.id, 0, "approval_requested").await;
    let asked = delivered(&harness, &server, 3).await;
    harness.service.approve(&record.id, None).await.unwrap();
    decision.await.unwrap().unwrap();
    run.answer("42");
    let all = delivered(&harness, &server, 4).await;

    assert_eq!(asked.iter().map(|request| body(request)["id"].clone()).collect::<std::collections::HashSet<_>>().len(), 1);
    let told: Vec<Value> = all.iter().map(|request| body(request)["event"].clone()).collect();
    assert_eq!(told, ["approval_requested", "approval_requested", "approval_requested", "ended"]);
    assert_eq!((&body(&all[3])["task"]["id"], &body(&all[3])["task"]["answer"]), (&record.id.clone().into(), &"42".into()));
    for request in &all {
        let timestamp = request.headers[TIMESTAMP_HEADER].to_str().unwrap().parse().unwrap();
        let expected = signature(harness.service.webhook_key(), timestamp, std::str::from_utf8(&request.body).unwrap());
        assert_eq!(request.headers[SIGNATURE_HEADER].to_str().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_webhook_is_given_up_after_the_last_attempt() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let harness = Harness::open(directory.path(), without_backoff(3), OnCancel::Ignores).await;
    harness.submit(submission_with_webhook(&server)).await;
    harness.next_run().await.answer("42");
    assert_eq!(delivered(&harness, &server, 3).await.len(), 3);
}

#[test]
fn a_webhook_outlives_the_process() {
    let outside = tokio::runtime::Runtime::new().unwrap();
    let server = outside.block_on(MockServer::start());
    let directory = tempfile::tempdir().unwrap();
    let endless_retries =
        ServiceConfig { webhooks: WebhookConfig { backoff_seconds: 0, attempts: u32::MAX, ..WebhookConfig::default() }, ..config() };
    let process = Process::start(directory.path(), endless_retries.clone());
    // The mock server has no route, so that every attempt is answered 404.
    process.block_on(async {
        let record = process.harness.submit(submission_with_webhook(&server)).await;
        process.harness.next_run().await.answer("42");
        process.harness.after_event(&record.id, 0, "ended").await;
    });
    process.kill();
    outside.block_on(server.reset());
    outside.block_on(Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server));
    let process = Process::start(directory.path(), endless_retries);
    let requests = process.block_on(delivered(&process.harness, &server, 1));
    assert_eq!((requests.len(), &body(&requests[0])["event"]), (1, &"ended".into()));
    process.kill();
}
