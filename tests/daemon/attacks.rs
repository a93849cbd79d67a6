//! Tries that a shared machine, a hostile page or a broken client makes: each is refused, with its status.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::figures::record;
use super::harness::Daemon;

/// A head that never ends is cut off long before this; the client's own patience is longer.
const SOON: Duration = Duration::from_secs(15);

/// A try: its name, the raw request, and the status of its refusal (0: closed without an answer).
struct Try(String, Vec<u8>, u16);

/// A request with these headers, closed after its answer.
fn request(line: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    (text + "\r\n" + body).into_bytes()
}

struct Table<'a> {
    host: &'a str,
    bearer: &'a str,
    tries: Vec<Try>,
}

impl Table<'_> {
    fn add(&mut self, name: &str, status: u16, request: Vec<u8>) {
        self.tries.push(Try(name.to_owned(), request, status));
    }

    /// A GET with these headers, and a good token.
    fn get(&mut self, name: &str, status: u16, target: &str, headers: &[(&str, &str)]) {
        let good = [("Host", self.host), ("Authorization", self.bearer)];
        let good = good.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let all: Vec<_> = good.chain(headers).copied().collect();
        self.add(name, status, request(&format!("GET {target}"), &all, ""));
    }

    /// A POST of this body with these headers, and a good token and content type.
    fn post(&mut self, name: &str, status: u16, target: &str, headers: &[(&str, &str)], body: &str) {
        let good = [("Host", self.host), ("Authorization", self.bearer), ("Content-Type", "application/json")];
        let good = good.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let all: Vec<_> = good.chain(headers).copied().filter(|(_, value)| *value != "-").collect();
        self.add(name, status, request(&format!("POST {target}"), &all, body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_SERVE__READ_SECONDS", "3"), ("MILEPOST_SERVE__WARM_BROWSERS", "0"), ("MILEPOST_SERVICE__WORKERS", "1")];
    let mut daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    daemon.expect(200, Method::GET, "/v1/tasks", None).await;
    let tokens = ["read", "run"].map(|scope| daemon.make_token(scope, scope, None));
    let expired = daemon.make_token("old", "admin", Some("0"));
    let replaced = daemon.token.clone();
    daemon.token_command(&["token", "rotate"]);
    daemon.token = std::fs::read_to_string(directory.path().join("token")).unwrap().trim().to_owned();
    daemon.get("/v1/tasks").await;
    let sessions = [sign_in(&daemon, &daemon.token).await, sign_in(&daemon, &tokens[1]).await];
    let host = format!("127.0.0.1:{}", daemon.port());
    let bearer = format!("Bearer {}", daemon.token);
    let mut table = Table { host: &host, bearer: &bearer, tries: Vec::new() };
    names_and_origins(&mut table, daemon.port());
    credentials(&mut table, &[&expired, &replaced], &tokens, &sessions);
    bodies(&mut table);
    paths_and_methods(&mut table);
    assert!(table.tries.len() >= 40, "{}", table.tries.len());
    let mut wrong = Vec::new();
    for Try(name, request, status) in &table.tries {
        let (got, answer) = tokio::task::block_in_place(|| daemon.raw(&[request], Duration::ZERO));
        if got != *status
            || answer.contains(&daemon.token)
            || (got >= 400 && got != 431 && !answer.contains("application/problem+json") && !answer.ends_with("\r\n\r\n"))
        {
            wrong.push(format!("{name}: {got} instead of {status}: {answer}"));
        }
    }
    slow(&daemon, &host, &bearer, &mut wrong);
    let tried = table.tries.len() + 2;
    record("attacks", &json!({ "tried": tried, "refused": tried - wrong.len() }));
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n\n"), daemon.log());
    let left = daemon.get("/v1/tasks").await;
    assert_eq!(left["tasks"], json!([]), "nothing of it became a task");
    assert!(!daemon.log().contains("panicked") && !daemon.log().contains(&daemon.token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_the_connection_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[("MILEPOST_SERVE__WARM_BROWSERS", "0")]));
    let post = |headers: &str| {
        let host = format!("127.0.0.1:{}", daemon.port());
        format!("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}\r\n").into_bytes()
    };
    let raw = |parts: &[&[u8]]| tokio::task::block_in_place(|| daemon.raw(parts, Duration::from_millis(300)));
    let last = [post("Connection: close\r\nContent-Length: 2\r\n"), b"{}".to_vec()].concat();

    // The body comes after its refusal is known: the next request on the connection is answered all the same.
    for (head, body) in
        [(post("Content-Length: 2\r\n"), b"{}".as_slice()), (post("Transfer-Encoding: chunked\r\n"), b"2\r\n{}\r\n0\r\n\r\n")]
    {
        let (status, answer) = raw(&[&head, body, &last]);
        assert_eq!((status, answer.matches("HTTP/1.1 401").count()), (401, 2), "{answer}");
    }
    // One that never comes, or is too long to be read off, or is only offered: the answer says that the connection ends, and it does.
    for headers in ["Content-Length: 100\r\n", "Content-Length: 200000\r\n", "Content-Length: 2\r\nExpect: 100-continue\r\n"] {
        let (status, answer) = raw(&[&post(headers)]);
        assert!(status == 401 && answer.to_lowercase().contains("connection: close"), "{headers}{answer}");
    }
}

/// Signs in; gives cookie and CSRF token.
async fn sign_in(daemon: &Daemon, token: &str) -> [String; 2] {
    let response = daemon.send(Method::POST, "/session", Some(json!({ "token": token }))).await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(token), "{cookie}");
    let session: Value = response.json().await.unwrap();
    [cookie.split(';').next().unwrap().to_owned(), session["csrf"].as_str().unwrap().to_owned()]
}

fn names_and_origins(table: &mut Table<'_>, port: u16) {
    for foreign in ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "169.254.169.254", "0.0.0.0", "[::]", "milepost"] {
        table.get(&format!("rebinding: {foreign}"), 403, "/v1/tasks", &[("Host", &format!("{foreign}:{port}"))]);
        table.get(&format!("rebinding, open route: {foreign}"), 403, "/healthz", &[("Host", foreign)]);
    }
    table.get("an absolute target of another host", 403, "http://evil.example/v1/tasks", &[]);
    table.add("no host", 400, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec());
    table.add("two hosts", 400, request("GET /healthz", &[("Host", "127.0.0.1"), ("Host", "evil.example")], ""));
    let others = [format!("http://127.0.0.1:{}", port ^ 1), format!("http://localhost:{port}"), format!("https://127.0.0.1:{port}")];
    for origin in others.iter().map(String::as_str).chain(["https://evil.example", "null", "file://", "http://evil.example:80"]) {
        table.get(&format!("origin {origin}"), 403, "/v1/tasks", &[("Origin", origin)]);
        table.post(&format!("changing, origin {origin}"), 403, "/v1/improve", &[("Origin", origin)], "{}");
    }
    let preflight = [("Host", table.host), ("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    table.add("a preflight of another origin", 403, request("OPTIONS /v1/tasks", &preflight, ""));
}

fn credentials(table: &mut Table<'_>, bad: &[&str; 2], scoped: &[String; 2], sessions: &[[String; 2]; 2]) {
    let host = ("Host", table.host);
    let good = table.bearer.strip_prefix("Bearer ").unwrap().to_owned();
    for route in ["/v1/tasks", "/v1/events", "/v1/adapters", "/v1/improve", "/metrics", "/openapi.json", "/docs/", "/session", "/nothing"] {
        table.add(&format!("no token for {route}"), 401, request(&format!("GET {route}"), &[host], ""));
    }
    let (cut, swapped, padded) = (&good[..good.len() - 1], good.to_lowercase(), format!("{good}x"));
    for token in ["", "mp_", cut, &swapped, &padded, bad[0], bad[1], "admin", "null"] {
        table.get(&format!("token {token:?}"), 401, "/v1/tasks", &[("Authorization", &format!("Bearer {token}"))]);
    }
    table.get("another scheme", 401, "/v1/tasks", &[("Authorization", &format!("Basic {good}"))]);
    table.add("two tokens", 401, request("GET /v1/tasks", &[host, ("Authorization", table.bearer), ("Authorization", table.bearer)], ""));
    table.add("a token in the query", 401, request(&format!("GET /v1/tasks?token={good}"), &[host], ""));
    table.add("a token as cookie", 401, request("GET /v1/tasks", &[host, ("Cookie", &format!("milepost_session={good}"))], ""));
    table.add("a forged cookie", 401, request("GET /v1/tasks", &[host, ("Cookie", "milepost_session=admin.99999999999.0.0")], ""));
    table.add(
        "a wrong token to sign in",
        401,
        request("POST /session", &[host, ("Content-Type", "application/json")], r#"{"token":"mp_x"}"#),
    );
    let [read, run] = scoped.each_ref().map(|token| format!("Bearer {token}"));
    let task = r#"{"goal":"x","url":"http://127.0.0.1:1/"}"#;
    for (target, body) in
        [("/v1/tasks", task), ("/v1/tasks/x/cancel", ""), ("/v1/tasks/x/approve", ""), ("/v1/tasks/x/feedback", r#"{"success":true}"#)]
    {
        table.post(&format!("scope read for {target}"), 403, target, &[("Authorization", &read)], body);
    }
    for target in ["/v1/improve", "/v1/adapters/x/promote", "/v1/adapters/x/rollback"] {
        table.post(&format!("scope run for {target}"), 403, target, &[("Authorization", &run)], "{}");
    }
    let [admin, other] = sessions;
    let by_cookie = |csrf: &str| [("Authorization", "-".to_owned()), ("Cookie", admin[0].clone()), ("X-CSRF-Token", csrf.to_owned())];
    for (name, csrf) in [("no", "-"), ("an empty", ""), ("a wrong", "0123"), ("another session's", &other[1]), ("the cookie as", &admin[0])]
    {
        let headers = by_cookie(csrf);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        table.post(&format!("CSRF: {name} token"), 403, "/v1/tasks", &headers, task);
    }
    let form = [("Authorization", "-"), ("Cookie", &admin[0]), ("Origin", "https://evil.example"), ("Content-Type", "text/plain")];
    table.post("CSRF: a form of another site", 403, "/v1/tasks", &form, task);
}

fn bodies(table: &mut Table<'_>) {
    const TASKS: &str = "/v1/tasks";
    let task = r#"{"goal":"x","url":"http://127.0.0.1:1/"}"#;
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "-"]
    {
        table.post(&format!("content type {kind}"), 415, TASKS, &[("Content-Type", kind)], task);
    }
    table.post("a length over the limit", 413, TASKS, &[], &format!(r#"{{"goal":"{}"}}"#, "x".repeat(1 << 20)));
    table.post("a length that is not sent", 413, TASKS, &[("Content-Length", "99999999999")], "");
    table.post("a length that is no number", 400, TASKS, &[("Content-Length", "1e9")], "");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1_100_000, "x".repeat(1_100_000));
    let head = request(
        &format!("POST {TASKS}"),
        &[("Host", table.host), ("Authorization", table.bearer), ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")],
        "",
    );
    table.add("chunks over the limit", 413, [head, chunk.into_bytes()].concat());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (name, body) in
        [("no JSON", "{"), ("deep nesting", deep.as_str()), ("a number too great", r#"{"goal":1e999}"#), ("two values", "{} {}")]
    {
        table.post(name, 400, TASKS, &[], body);
    }
    let latin = [
        &request(
            &format!("POST {TASKS}"),
            &[("Host", table.host), ("Authorization", table.bearer), ("Content-Type", "application/json"), ("Content-Length", "13")],
            "",
        )[..],
        b"{\"goal\":\"\xff\xfe\"}",
    ]
    .concat();
    table.add("invalid UTF-8", 400, latin);
    let with = |more: &str| format!(r#"{{"goal":"x","url":"http://127.0.0.1:1/",{more}}}"#);
    let parens = format!(r#""check":"{}""#, "(".repeat(50_000));
    for (name, more) in [
        ("an unknown field", r#""shell":"id""#),
        ("a negative seed", r#""seed":-1"#),
        ("a huge seed", r#""seed":18446744073709551616"#),
        ("a priority out of range", r#""priority":101"#),
        ("a profile that climbs", r#""profile":"../../etc""#),
        ("a secret that climbs", r#""secrets":["../token"]"#),
        ("a schema that fetches", r#""output_schema":{"$ref":"http://169.254.169.254/"}"#),
        ("a check without end", parens.as_str()),
        ("no limit", r#""limits":{"max_seconds":0}"#),
        ("an own limit of the future", r#""limits":{"max_steps":4294967296}"#),
    ] {
        table.post(name, 422, TASKS, &[], &with(more));
    }
    for url in
        ["file:///etc/passwd", "javascript:alert(1)", "chrome://settings", "http://", "http://user:password@a.org/", "//evil.example/"]
    {
        table.post(&format!("a task on {url}"), 422, TASKS, &[], &format!(r#"{{"goal":"x","url":"{url}"}}"#));
    }
    table.post("a secret that is not ours", 403, TASKS, &[], &with(r#""secrets":["PATH"]"#));
    table.post("a webhook to the metadata service", 403, TASKS, &[], &with(r#""webhook":"http://169.254.169.254/latest""#));
    table.post("a webhook to ourselves", 403, TASKS, &[], &with(r#""webhook":"http://127.0.0.1:7420/v1/improve""#));
}

fn paths_and_methods(table: &mut Table<'_>) {
    let id = "00000000-0000-7000-8000-000000000000";
    for (target, status) in [
        (format!("/v1/tasks/{id}/screenshots/../../../../../etc/passwd"), 404),
        (format!("/v1/tasks/{id}/screenshots/..%2f..%2f..%2fetc%2fpasswd"), 400),
        (format!("/v1/tasks/{id}/screenshots/%2e%2e%5c%2e%2e"), 400),
        (format!("/v1/tasks/{id}/screenshots/-1"), 400),
        (format!("/v1/tasks/{id}/screenshots/99999999999"), 400),
        ("/v1/tasks/..%2f..%2ftoken/episode".into(), 404),
        ("/v1/tasks/%00".into(), 404),
        ("/v1/tasks/%ff".into(), 400),
        ("/docs/..%2f..%2f..%2fetc%2fpasswd".into(), 404),
        ("/docs/../../../etc/passwd".into(), 404),
        ("//evil.example/%2f..".into(), 404),
        ("/v1/tasks?limit=999999".into(), 400),
        ("/v1/tasks?limit=1&limit=2".into(), 400),
        ("/v1/tasks?state=%27%20OR%201=1".into(), 400),
        ("/v1/tasks?cursor=1;DROP".into(), 400),
    ] {
        table.get(&format!("path {target}"), status, &target, &[]);
    }
    for target in [format!("/v1/tasks/{id}/cancel"), format!("/v1/tasks/{id}/approve"), "/v1/adapters/x/promote".into()] {
        table.get(&format!("a change by GET: {target}"), 405, &target, &[]);
    }
    let good = [("Host", table.host), ("Authorization", table.bearer)];
    for method in ["TRACE", "PUT", "PATCH", "DELETE", "BREW"] {
        table.add(&format!("method {method}"), 405, request(&format!("{method} /v1/tasks"), &good, ""));
    }
    table.get("a last event that is none", 400, "/v1/events", &[("Last-Event-ID", "x")]);
    table.get("a head without end", 431, "/v1/tasks", &[("X-Long", &"x".repeat(300_000))]);
    table.add("no HTTP", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec());
}

/// Requests that never come to their end: the body's is answered, the head's is cut off.
fn slow(daemon: &Daemon, host: &str, bearer: &str, wrong: &mut Vec<String>) {
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    );
    let (drip, pause) = (b"{".as_slice(), Duration::from_millis(1200));
    let (status, answer) = tokio::task::block_in_place(|| daemon.raw(&[head.as_bytes(), drip, drip, drip], pause));
    if status != 408 {
        wrong.push(format!("a body that drips: {status}: {answer}"));
    }
    let began = std::time::Instant::now();
    let parts: Vec<&[u8]> =
        std::iter::once(b"GET /healthz HTTP/1.1\r\n".as_slice()).chain(std::iter::repeat_n(b"X: 1\r\n".as_slice(), 4)).collect();
    let (status, answer) = tokio::task::block_in_place(|| daemon.raw(&parts, pause));
    if !matches!(status, 0 | 408) || began.elapsed() > SOON {
        wrong.push(format!("a head that drips: {status} after {:?}: {answer}", began.elapsed()));
    }
}
