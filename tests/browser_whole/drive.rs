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

/// Two peers in the page, and a STUN server and a candidate at the address that must not be reached.
const WEBRTC: &str = r#"<title>Call</title><button>Call</button><script>(async () => {
  const at = 'CANARY', [host, port] = at.split(':');
  const servers = [{ urls: 'stun:' + at }, { urls: 'turn:' + at + '?transport=udp', username: 'a', credential: 'b' }];
  const alone = new RTCPeerConnection({ iceServers: servers });
  alone.createDataChannel('x');
  await alone.setLocalDescription(await alone.createOffer());
  const a = new RTCPeerConnection(), b = new RTCPeerConnection();
  a.createDataChannel('x');
  await a.setLocalDescription(await a.createOffer());
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(await b.createAnswer());
  await a.setRemoteDescription(b.localDescription);
  const candidate = 'candidate:1 1 udp 2122260223 ' + host + ' ' + port + ' typ host';
  for (const peer of [a, b]) await peer.addIceCandidate({ candidate, sdpMid: '0', sdpMLineIndex: 0 });
  await fetch('/ran');
})()</script><script src='/slow.js'></script>"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_send_no_datagram_by_webrtc() {
    let directory = tempfile::tempdir().unwrap();
    let canary = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let body = WEBRTC.replace("CANARY", &canary.local_addr().unwrap().to_string());
    let (ran, mut runs) = tokio::sync::mpsc::unbounded_channel();
    // The page does not finish loading before WebRTC has had time to send.
    let slow = || async { tokio::time::sleep(std::time::Duration::from_secs(4)).await };
    let site = axum::Router::new()
        .route("/", get(move || async move { Html(body) }))
        .route("/slow.js", get(slow))
        .route("/ran", get(move || async move { ran.send(()).unwrap_or_default() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, site).await });
    tokio::task::block_in_place(|| super::milepost(directory.path(), &["run", "Click \"Call\".", "--url", &url, "--max-steps", "1"]));
    assert!(runs.try_recv().is_ok(), "the page's script did not run");
    let mut datagram = [0; 1500];
    assert!(canary.recv_from(&mut datagram).is_err(), "a datagram went past the egress proxy");
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
