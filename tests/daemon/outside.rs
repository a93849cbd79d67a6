//! What the daemon keeps and sends beyond a task: named profiles, and word to webhooks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::routing::{get, post};
use hmac::{Hmac, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use super::harness::Daemon;

/// Tasks go before training: a run stands still while the workers are busy, and goes on afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_improvement_run_stands_still_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("MILEPOST_SERVICE__WORKERS", "1"),
        ("MILEPOST_IMPROVE__LEVELS", "[easy]"),
        ("MILEPOST_IMPROVE__TASKS", "200"),
        ("MILEPOST_IMPROVE__GROUP", "2"),
    ];
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    let (url, _) = site().await;
    daemon.expect(202, Method::POST, "/v1/improve", Some(json!({ "suite": "bundled", "recipe": "successes" }))).await;
    let paused = async |wanted: bool| {
        for _ in 0..2400 {
            let status = daemon.get("/v1/improve").await;
            assert!(!status["running"].is_null(), "it goes on: {status}");
            if status["running"]["paused"] == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("paused should become {wanted}: {}", daemon.log());
    };
    paused(false).await;
    let busy = async {
        loop {
            futures_util::future::join_all((0..3).map(|_| visit(&daemon, &url, json!({})))).await;
        }
    };
    tokio::select! {
        () = paused(true) => {}
        () = busy => {}
    }
    paused(false).await;
}

type Seen<T> = Arc<Mutex<Vec<T>>>;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A site that knows its visitors again; gives what each visit's cookie said.
async fn site() -> (String, Seen<String>) {
    let seen = Seen::<String>::default();
    let visit = async |State(seen): State<Seen<String>>, headers: HeaderMap| {
        let cookie = headers.get("cookie").map_or("", |value| value.to_str().unwrap()).to_owned();
        seen.lock().unwrap().push(cookie);
        ([("set-cookie", "known=yes; Max-Age=3600"), ("content-type", "text/html")], "<title>Desk</title><h1>Welcome</h1>")
    };
    let address = serve(Router::new().route("/", get(visit)).with_state(seen.clone())).await;
    (format!("http://{address}/"), seen)
}

async fn visit(daemon: &Daemon, url: &str, more: Value) -> String {
    let mut body = json!({ "limits": { "max_steps": 1 } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let task = daemon.submit("Read the title.", url, body).await;
    daemon.follow(&task, 0, |_| false).await;
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_profile_is_kept_and_no_other_task_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[]));
    let (url, seen) = site().await;
    let mut known = Vec::new();
    for more in [json!({ "profile": "desk" }), json!({}), json!({ "profile": "desk" }), json!({ "profile": "other" })] {
        visit(&daemon, &url, more).await;
        known.push(std::mem::take(&mut *seen.lock().unwrap())[0].contains("known=yes"));
    }
    assert_eq!(known, [false, false, true, false], "{}", daemon.log());
    let body = json!({ "goal": "Read the title.", "url": url, "profile": "../desk" });
    daemon.expect(422, Method::POST, "/v1/tasks", Some(body)).await;
}

/// Takes word in; the first is answered with an error.
async fn receiver() -> (String, Seen<(HeaderMap, String)>) {
    let told = Seen::<(HeaderMap, String)>::default();
    let take = async |State(told): State<Seen<(HeaderMap, String)>>, headers: HeaderMap, body: String| {
        let mut told = told.lock().unwrap();
        told.push((headers, body));
        axum::http::StatusCode::from_u16(if told.len() == 1 { 503 } else { 204 }).unwrap()
    };
    (serve(Router::new().route("/told", post(take)).with_state(told.clone())).await, told)
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> &'a str {
    headers.get(HeaderName::from_static(name)).unwrap().to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_is_told_signed_and_only_where_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let ((host, told), (url, _)) = (receiver().await, site().await);
    let hosts = format!("[\"{host}\"]");
    let settings = [("MILEPOST_SERVE__WEBHOOK_HOSTS", hosts.as_str()), ("MILEPOST_SERVICE__WEBHOOKS__BACKOFF_SECONDS", "1")];
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    let task = visit(&daemon, &url, json!({ "webhook": format!("http://{host}/told") })).await;
    for _ in 0..2400 {
        if told.lock().unwrap().len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "tried again after an error: {}", daemon.log());
    let key = std::fs::read_to_string(directory.path().join("data/service/webhook.key")).unwrap();
    for (headers, body) in &told {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.trim().as_bytes()).unwrap();
        mac.update(format!("{}.{body}", header(headers, "milepost-timestamp")).as_bytes());
        let digits = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert_eq!(header(headers, "milepost-signature"), format!("v1={digits}"));
        assert!(body.contains(&task) && !body.contains(&daemon.token), "{body}");
    }
    assert_eq!(told[0].1, told[1].1, "the same message, by its id");
    let (other, heard) = receiver().await;
    let body = json!({ "goal": "Read the title.", "url": url, "webhook": format!("http://{other}/told") });
    daemon.expect(403, Method::POST, "/v1/tasks", Some(body)).await;
    assert!(heard.lock().unwrap().is_empty());
}
