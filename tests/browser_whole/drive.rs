//! The commands `observe` and `drive`, whose JSON output other programs build upon, and errors of `run` about hosts.

use axum::response::Html;
use axum::routing::get;
use milepost_suites::template;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_send_no_request_to_a_host_outside_the_capability() {
    let directory = tempfile::tempdir().unwrap();
    let listen = || async { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let (own, other) = (listen().await, listen().await);
    let (own_url, other_url) = (format!("http://{}/", own.local_addr().unwrap()), format!("http://{}/", other.local_addr().unwrap()));
    let (reached, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let foreign = axum::Router::new().fallback(move || async move { reached.send(()).unwrap_or_default() });
    let body = format!(
        "<title>Trap</title><img src='{other_url}img'><iframe src='{other_url}frame'></iframe><script>fetch('{other_url}fetch')</script><a href='{other_url}link'>Prize</a>"
    );
    let page = axum::Router::new().route("/", get(move || async move { Html(body) }));
    tokio::spawn(async move { axum::serve(own, page).await });
    tokio::spawn(async move { axum::serve(other, foreign).await });
    let output = tokio::task::block_in_place(|| {
        super::milepost(directory.path(), &["run", "Open \"Prize\".", "--url", &own_url, "--max-steps", "3"])
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("refused") && stderr.contains("--host"), "{stderr}");
    assert!(arrivals.try_recv().is_err(), "a request reached a host outside the capability");
}

#[test]
fn the_error_about_a_site_that_does_not_answer_says_what_to_check() {
    let directory = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = super::milepost(directory.path(), &["run", "Find the price.", "--url", &format!("http://{free}/")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("cannot open") && text.contains("check the address and that the site is up"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_prints_the_observation_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let served = template("shop_price").unwrap().instantiate(10_000).serve().await.unwrap();
    let output = tokio::task::block_in_place(|| super::milepost(directory.path(), &["observe", served.url.as_str(), "--json"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let observation: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(observation["url"], served.url.as_str());
    assert!(
        observation["elements"].as_array().unwrap().iter().any(|element| element["role"] == "searchbox" || element["role"] == "textbox"),
        "{observation}"
    );
    assert!(
        observation["elapsed_ms"].as_f64().is_some()
            && observation["truncated"] == false
            && observation["text"].is_string()
            && observation["title"].is_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn drive_acts_on_elements_by_id_and_by_name_and_reports_each_line() {
    let directory = tempfile::tempdir().unwrap();
    let served = template("shop_price").unwrap().instantiate(10_000).serve().await.unwrap();
    let script = directory.path().join("script");
    std::fs::write(&script, "# a comment\ntype textbox \"Search\" \"mug\"\ntype searchbox \"Search\" \"mug\"\nclick 999\nfly 3\nback\n")
        .unwrap();
    let output = tokio::task::block_in_place(|| {
        super::milepost(directory.path(), &["drive", served.url.as_str(), "--script", script.to_str().unwrap(), "--json"])
    });
    let lines: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0]["ok"] == true || lines[1]["ok"] == true, "the search field takes text under one of its roles: {lines:?}");
    assert!(lines[2]["error"].as_str().unwrap().contains("999") && lines[3]["error"].as_str().unwrap().contains("expected click"));
    assert!(lines.iter().all(|line| line["observation"]["url"].is_string() && line["changed"].is_boolean()));
    assert_eq!(output.status.code(), Some(1), "a script with a failed line fails");
}
