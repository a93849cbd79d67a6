//! A site that sets a cookie and records the cookies of its visits, and short tasks that visit it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::{Value, json};

use super::harness::Daemon;

/// The values that a test server has received so far.
pub type Received<T> = Arc<Mutex<Vec<T>>>;

/// Serves a router on a free port of the loopback interface, and returns `host:port`.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Starts the site. Returns its URL, and the `Cookie` header of each visit (empty if there was none).
pub async fn site() -> (String, Received<String>) {
    let cookies = Received::<String>::default();
    let page = async |State(cookies): State<Received<String>>, headers: HeaderMap| {
        let cookie = headers.get("cookie").map_or("", |value| value.to_str().unwrap()).to_owned();
        cookies.lock().unwrap().push(cookie);
        ([("set-cookie", "known=yes; Max-Age=3600"), ("content-type", "text/html")], "<title>Desk</title><h1>Welcome</h1>")
    };
    let address = serve(Router::new().route("/", get(page)).with_state(cookies.clone())).await;
    (format!("http://{address}/"), cookies)
}

/// Runs a task of one step on a site, with these fields in its submission, to its end. Returns its id.
pub async fn visit(daemon: &Daemon, url: &str, fields: Value) -> String {
    let mut body = json!({ "limits": { "max_steps": 1 } });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let task = daemon.submit("Read the title.", url, body).await;
    daemon.follow(&task, 0, |_| false).await;
    task
}
