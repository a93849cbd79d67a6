//! Named browser profiles.

use reqwest::Method;
use serde_json::json;

use super::harness::Daemon;
use super::visited_site::{site, visit};

#[tokio::test(flavor = "multi_thread")]
async fn a_named_profile_keeps_its_cookies_and_no_other_task_sees_them() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[]));
    let (url, cookies) = site().await;
    let mut known = Vec::new();
    for fields in [json!({ "profile": "desk" }), json!({}), json!({ "profile": "desk" }), json!({ "profile": "other" })] {
        visit(&daemon, &url, fields).await;
        known.push(std::mem::take(&mut *cookies.lock().unwrap())[0].contains("known=yes"));
    }
    assert_eq!(known, [false, false, true, false], "{}", daemon.log());
    let body = json!({ "goal": "Read the title.", "url": url, "profile": "../desk" });
    daemon.expect(422, Method::POST, "/v1/tasks", Some(body)).await;
}
