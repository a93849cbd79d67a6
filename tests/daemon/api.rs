//! Calls each endpoint of the API, on tasks of the suite with the seed model.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milepost_suites::{bundled, template};
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Daemon, browsers};
use super::measurements::count;

/// Starts a collector of OpenTelemetry traces. Returns its address and the number of bytes that it has received.
async fn trace_collector() -> (String, Arc<AtomicUsize>) {
    let received = Arc::new(AtomicUsize::new(0));
    let counted = received.clone();
    let route = axum::routing::post(async move |body: axum::body::Bytes| {
        counted.fetch_add(body.len(), Ordering::SeqCst);
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/v1/traces", route)).await });
    (address, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_as_documented() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, traced_bytes) = trace_collector().await;
    let settings = [
        ("MILEPOST_SERVE__OTLP_ENDPOINT", collector.as_str()),
        ("MILEPOST_SERVE__LOG_FORMAT", "json"),
        ("MILEPOST_LOG", "info,milepost=debug"),
        ("MILEPOST_EPISODES__SCREENSHOTS", "all"),
        ("MILEPOST_SERVICE__DRAIN_SECONDS", "1"),
    ];
    let mut daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    let instance = template("shop_price").unwrap().instantiate(10_001);
    let site = instance.serve().await.unwrap();
    let url = site.url.join(instance.start_path()).unwrap().to_string();

    check_health_and_documents(&daemon).await;
    let task = check_events_of_a_task(&daemon, instance.goal(), &url).await;
    check_followers(&daemon, &task).await;
    check_ended_task(&daemon, &task).await;
    check_listing_and_idempotency(&daemon, &url).await;
    check_output_schema(&daemon, instance.goal(), &url).await;
    check_approval(&daemon).await;
    check_adapters_and_improvement(&daemon).await;
    check_sessions(&daemon).await;
    check_metrics(&daemon).await;

    daemon.signal("-TERM");
    let status = tokio::task::block_in_place(|| daemon.wait());
    assert!(status.success() && !directory.path().join("ready").exists(), "{status}: {}", daemon.log());
    assert!(traced_bytes.load(Ordering::SeqCst) > 0, "no trace has arrived at the collector");
    assert_eq!(browsers(directory.path()), 0);
}

/// Checks the endpoints that need no token, two that do, and the documents of the API.
async fn check_health_and_documents(daemon: &Daemon) {
    let client = reqwest::Client::new();
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/v1/tasks", 401), ("/metrics", 401)] {
        let response = client.get(format!("{}{path}", daemon.address)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
    }
    assert_eq!(daemon.get("/openapi.json").await["openapi"], "3.1.0");
    let page = daemon.send(Method::GET, "/docs/", None).await.text().await.unwrap();
    assert!(page.contains("swagger-ui") && !page.contains("http://") && !page.contains("https://"), "{page}");
}

/// Submits a task and checks its events up to its end, and that a step of its browser is logged with the id of the request. Returns its id.
async fn check_events_of_a_task(daemon: &Daemon, goal: &str, url: &str) -> String {
    let body = json!({ "goal": goal, "url": url, "check": "text visible \"About\"", "planner": "adaplan", "limits": { "max_steps": 20 } });
    let request = reqwest::Client::new().post(format!("{}/v1/tasks", daemon.address)).bearer_auth(&daemon.token);
    let response = request.header("X-Request-Id", "my-request-7").json(&body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["x-request-id"].to_str().unwrap()), (201, "my-request-7"));
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let id = location.strip_prefix("/v1/tasks/").unwrap().to_owned();
    let events = daemon.follow(&id, 0, |_| false).await;
    let kinds: BTreeSet<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert!(["queued", "started", "episode", "plan", "step", "ended"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    assert!(events.iter().map(|event| event.id).eq(1..=events.len() as u64));
    let step = daemon.log().lines().find(|line| line.contains("\"acts\"") && line.contains(&id)).map(str::to_owned);
    assert!(step.is_some_and(|line| line.contains("my-request-7")), "{}", daemon.log());
    id
}

/// Checks that many followers of a task that has ended each get every event once and in order, when they reconnect in between.
async fn check_followers(daemon: &Daemon, task: &str) {
    let all = daemon.follow(task, 0, |_| false).await;
    let followers = futures_util::future::join_all((0..count("DAEMON_FOLLOWERS", 20)).map(async |follower| {
        let cut = follower % all.len();
        let mut events = daemon.follow(task, 0, |event| event.id > cut as u64).await;
        let last = events.last().unwrap().id;
        events.extend(daemon.follow(task, last, |_| false).await);
        events
    }));
    assert!(followers.await.into_iter().all(|events| events == all));
}

/// Checks a task that is done: its record, episode and screenshots, the requests that it now refuses, and feedback.
async fn check_ended_task(daemon: &Daemon, task: &str) {
    let path = |rest: &str| format!("/v1/tasks/{task}{rest}");
    let shown = daemon.get(&path("")).await;
    assert!(shown["state"] == "done" && shown["acted"] == true && shown["success"] == true, "{shown}");
    let episode = daemon.get(&path("/episode")).await;
    assert!(episode["id"] == shown["episode"] && !episode["steps"].as_array().unwrap().is_empty());
    let picture = daemon.send(Method::GET, &path("/screenshots/0"), None).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));
    daemon.expect(404, Method::GET, &path("/screenshots/999"), None).await;
    for (request, body) in
        [("cancel", None), ("resume", None), ("approve", None), ("deny", None), ("message", Some(json!({ "text": "go on" })))]
    {
        daemon.expect(409, Method::POST, &path(&format!("/{request}")), body).await;
    }
    let judged = daemon.expect(200, Method::POST, &path("/feedback"), Some(json!({ "success": false, "note": "wrong one" }))).await;
    assert!(judged["success"] == false && judged["feedback"]["note"] == "wrong one");
    assert_eq!(daemon.get(&path("/episode")).await["success"], false);
    let unknown = "/v1/tasks/00000000-0000-7000-8000-000000000000";
    for rest in ["", "/episode", "/events", "/screenshots/0"] {
        daemon.expect(404, Method::GET, &format!("{unknown}{rest}"), None).await;
    }
}

/// Checks that a repeated idempotency key names the same task, and the pages and filters of the list of tasks.
async fn check_listing_and_idempotency(daemon: &Daemon, url: &str) {
    let body = json!({ "goal": "x", "url": url, "idempotency_key": "k1", "priority": -100 });
    let first = daemon.expect(201, Method::POST, "/v1/tasks", Some(body.clone())).await;
    let second = daemon.expect(200, Method::POST, "/v1/tasks", Some(body.clone())).await;
    assert_eq!(first["id"], second["id"]);
    let mut other = body;
    other["goal"] = "y".into();
    daemon.expect(409, Method::POST, "/v1/tasks", Some(other)).await;
    let cancel = format!("/v1/tasks/{}/cancel", first["id"].as_str().unwrap());
    daemon.expect(200, Method::POST, &cancel, None).await;
    daemon.follow(first["id"].as_str().unwrap(), 0, |_| false).await;
    let page = daemon.get("/v1/tasks?limit=1").await;
    assert_eq!(page["tasks"][0]["id"], first["id"]);
    let next = daemon.get(&format!("/v1/tasks?limit=1&cursor={}", page["next"].as_str().unwrap())).await;
    assert_ne!(next["tasks"][0]["id"], first["id"]);
    assert_eq!(daemon.get("/v1/tasks?state=cancelled&caller=admin").await["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.get("/v1/tasks?caller=nobody").await["tasks"], json!([]));
}

/// Checks that an answer that does not fit the `output_schema` fails its task, and that one that fits is returned as `output`.
async fn check_output_schema(daemon: &Daemon, goal: &str, url: &str) {
    let schema = json!({ "type": "object", "properties": { "price": { "type": "number" } }, "required": ["price"] });
    let id = daemon.submit(goal, url, json!({ "output_schema": schema })).await;
    let events = daemon.follow(&id, 0, |_| false).await;
    let end = &events.last().unwrap().data["data"];
    assert!(end["state"] == "failed" && end["reason"].as_str().unwrap().contains("output_schema") && end["answer"].is_string(), "{end}");
    let id = daemon.submit(goal, url, json!({ "output_schema": { "type": "integer" } })).await;
    daemon.follow(&id, 0, |_| false).await;
    let task = daemon.get(&format!("/v1/tasks/{id}")).await;
    assert!(task["output"].is_i64() && task["output"].as_i64() == task["answer"].as_str().unwrap().parse().ok(), "{task}");
}

/// Checks the approval of an action with a secret outside the capability: the request has a reason and a screenshot, it is denied, the step
/// fails with the person's note, and the task is cancelled.
async fn check_approval(daemon: &Daemon) {
    let with_secret = bundled().iter().map(|template| template.instantiate(10_003)).find(|instance| !instance.secrets().is_empty());
    let instance = with_secret.unwrap();
    let site = instance.serve().await.unwrap();
    let url = site.url.join(instance.start_path()).unwrap();
    let id = daemon.submit(instance.goal(), url.as_str(), json!({})).await;
    let events = daemon.follow(&id, 0, |event| event.kind == "approval_requested").await;
    assert_eq!(events.last().unwrap().kind, "approval_requested", "{events:?}");
    let path = |rest: &str| format!("/v1/tasks/{id}{rest}");
    let waiting = daemon.get(&path("")).await;
    let approval = &waiting["approval"];
    assert!(waiting["state"] == "needs_approval" && approval["reason"].as_str().unwrap().contains("secret"), "{waiting}");
    let picture = daemon.send(Method::GET, &path(&format!("/screenshots/{}", approval["screenshot"])), None).await;
    assert_eq!(picture.status(), 200);
    daemon.expect(200, Method::POST, &path("/message"), Some(json!({ "text": "stop if you cannot" }))).await;
    let denied = daemon.expect(200, Method::POST, &path("/deny"), Some(json!({ "note": "not with that" }))).await;
    assert_eq!(denied["state"], "running");
    let step = daemon.follow(&id, denied["last_seq"].as_u64().unwrap(), |event| event.kind == "step").await;
    assert!(step.last().unwrap().data["data"]["error"].as_str().unwrap().contains("not with that"), "{step:?}");
    let again = daemon.follow(&id, step.last().unwrap().id, |event| event.kind == "approval_requested").await;
    if again.last().is_some_and(|event| event.kind == "approval_requested") {
        daemon.expect(200, Method::POST, &path("/approve"), None).await;
    }
    daemon.send(Method::POST, &path("/cancel"), None).await;
    daemon.follow(&id, 0, |_| false).await;
    assert_ne!(daemon.get(&path("")).await["state"], "done");
}

/// Checks the endpoints of adapters while there are none, and starts an improvement run, which is a process of low priority.
async fn check_adapters_and_improvement(daemon: &Daemon) {
    let adapters = daemon.get("/v1/adapters").await;
    assert!(adapters["adapters"] == json!([]) && adapters["generation"].as_str().unwrap().len() == 12);
    for change in ["promote", "rollback"] {
        daemon.expect(404, Method::POST, &format!("/v1/adapters/0123456789ab/{change}"), Some(json!({ "reason": "test" }))).await;
    }
    assert_eq!(daemon.get("/v1/improve").await["running"], Value::Null);
    let run = daemon.expect(202, Method::POST, "/v1/improve", Some(json!({ "suite": "own", "recipe": "successes" }))).await;
    assert!(run["running"]["process"].is_u64());
    let process = run["running"]["process"].as_u64().unwrap();
    daemon.expect(409, Method::POST, "/v1/improve", None).await;
    // The 19th field of `/proc/PID/stat` is the nice value (proc(5)).
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    assert_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').nth(16), Some("15"), "{stat}");
}

/// Checks signing in and out, and that a change by cookie needs the CSRF token.
async fn check_sessions(daemon: &Daemon) {
    let client = reqwest::Client::new();
    let address = &daemon.address;
    let wrong = client.post(format!("{address}/session")).json(&json!({ "token": "mp_wrong" })).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let signed = client.post(format!("{address}/session")).json(&json!({ "token": daemon.token })).send().await.unwrap();
    let cookie = signed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let session: Value = signed.json().await.unwrap();
    let shown = client.get(format!("{address}/session")).header("Cookie", &cookie).send().await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap()["csrf"], session["csrf"]);
    let change =
        |csrf: &str| client.post(format!("{address}/v1/tasks/x/cancel")).header("Cookie", &cookie).header("X-CSRF-Token", csrf).send();
    assert_eq!(change("").await.unwrap().status(), 403);
    assert_eq!(change(session["csrf"].as_str().unwrap()).await.unwrap().status(), 404);
    let out =
        client.delete(format!("{address}/session")).header("Cookie", &cookie).header("X-CSRF-Token", session["csrf"].as_str().unwrap());
    assert_eq!(out.send().await.unwrap().status(), 204);
    assert_eq!(client.get(format!("{address}/v1/tasks")).header("Cookie", &cookie).send().await.unwrap().status(), 401);
}

/// Checks the names of the metrics.
async fn check_metrics(daemon: &Daemon) {
    let text = daemon.send(Method::GET, "/metrics", None).await.text().await.unwrap();
    let names: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    assert!(names.iter().all(|name| name.is_empty() || name.starts_with("milepost_")), "{names:?}");
    for name in [
        "milepost_tasks",
        "milepost_step_seconds_bucket",
        "milepost_phase_seconds_bucket",
        "milepost_tokens_total",
        "milepost_engine_queue",
        "milepost_browser_restarts_total",
        "milepost_blocked_hosts_total",
        "milepost_generation_info",
        "milepost_http_request_seconds_bucket",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    assert!(text.contains("milepost_tasks{state=\"done\"}"), "{text}");
}
