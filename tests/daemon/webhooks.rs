//! Webhooks: they are signed, repeated after an error, and sent to allowed hosts only.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::routing::post;
use hmac::{Hmac, Mac};
use reqwest::Method;
use serde_json::json;
use sha2::Sha256;

use super::harness::Daemon;
use super::visited_site::{Received, serve, site, visit};

/// Starts a server that records webhooks (headers and body) and answers the first one with an error. Returns its `host:port` and the record.
async fn receiver() -> (String, Received<(HeaderMap, String)>) {
    let received = Received::<(HeaderMap, String)>::default();
    let answer = async |State(received): State<Received<(HeaderMap, String)>>, headers: HeaderMap, body: String| {
        let mut received = received.lock().unwrap();
        received.push((headers, body));
        axum::http::StatusCode::from_u16(if received.len() == 1 { 503 } else { 204 }).unwrap()
    };
    (serve(Router::new().route("/hook", post(answer)).with_state(received.clone())).await, received)
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> &'a str {
    headers.get(HeaderName::from_static(name)).unwrap().to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_is_sent_with_a_signature_to_allowed_hosts_only() {
    let directory = tempfile::tempdir().unwrap();
    let ((host, received), (url, _)) = (receiver().await, site().await);
    let hosts = format!("[\"{host}\"]");
    let settings = [("MILEPOST_SERVE__WEBHOOK_HOSTS", hosts.as_str()), ("MILEPOST_SERVICE__WEBHOOKS__BACKOFF_SECONDS", "1")];
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    let task = visit(&daemon, &url, json!({ "webhook": format!("http://{host}/hook") })).await;
    for _ in 0..2400 {
        if received.lock().unwrap().len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let webhooks = received.lock().unwrap().clone();
    assert_eq!(webhooks.len(), 2, "the webhook was not sent again after an error: {}", daemon.log());
    let key = std::fs::read_to_string(directory.path().join("data/service/webhook.key")).unwrap();
    for (headers, body) in &webhooks {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.trim().as_bytes()).unwrap();
        mac.update(format!("{}.{body}", header(headers, "milepost-timestamp")).as_bytes());
        let digits = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert_eq!(header(headers, "milepost-signature"), format!("v1={digits}"));
        assert!(body.contains(&task) && !body.contains(&daemon.token), "{body}");
    }
    assert_eq!(webhooks[0].1, webhooks[1].1, "both attempts send the same body, with the same id");
    let (other, received) = receiver().await;
    let body = json!({ "goal": "Read the title.", "url": url, "webhook": format!("http://{other}/hook") });
    daemon.expect(403, Method::POST, "/v1/tasks", Some(body)).await;
    assert!(received.lock().unwrap().is_empty());
}
