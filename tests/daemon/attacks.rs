//! Requests of other users of the machine, of hostile pages and of broken clients: each is refused with the right status.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::Daemon;
use super::measurements::record;

/// The maximum time after which a request whose head never ends is cut off. The client itself waits longer.
const CUT_OFF: Duration = Duration::from_secs(15);

/// A request that must be refused.
struct Attack {
    name: String,
    /// The raw request.
    request: Vec<u8>,
    /// The status of the refusal; 0 if the connection is closed without an answer.
    status: u16,
}

/// Writes a request with these headers. The connection is closed after the answer.
fn request(line: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    (text + "\r\n" + body).into_bytes()
}

/// The attacks so far, and a host and an `Authorization` header that the daemon accepts.
struct Attacks<'a> {
    host: &'a str,
    bearer: &'a str,
    all: Vec<Attack>,
}

impl Attacks<'_> {
    fn add(&mut self, name: &str, status: u16, request: Vec<u8>) {
        self.all.push(Attack { name: name.to_owned(), request, status });
    }

    /// Adds a GET request with these headers. Host and token are good unless the headers replace them.
    fn get(&mut self, name: &str, status: u16, target: &str, headers: &[(&str, &str)]) {
        let good = [("Host", self.host), ("Authorization", self.bearer)];
        let good = good.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let all: Vec<_> = good.chain(headers).copied().collect();
        self.add(name, status, request(&format!("GET {target}"), &all, ""));
    }

    /// Adds a POST request with this body and these headers. Host, token and content type are good unless the headers replace them; the value
    /// `-` leaves a header out.
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
    let mut attacks = Attacks { host: &host, bearer: &bearer, all: Vec::new() };
    hosts_and_origins(&mut attacks, daemon.port());
    credentials(&mut attacks, &[&expired, &replaced], &tokens, &sessions);
    bodies(&mut attacks);
    task_fields(&mut attacks);
    paths_and_methods(&mut attacks);
    assert!(attacks.all.len() >= 40, "{}", attacks.all.len());
    let mut wrong = Vec::new();
    for Attack { name, request, status } in &attacks.all {
        let (got, answer) = tokio::task::block_in_place(|| daemon.raw(&[request], Duration::ZERO));
        if got != *status
            || answer.contains(&daemon.token)
            || (got >= 400 && got != 431 && !answer.contains("application/problem+json") && !answer.ends_with("\r\n\r\n"))
        {
            wrong.push(format!("{name}: {got} instead of {status}: {answer}"));
        }
    }
    check_slow_requests(&daemon, &host, &bearer, &mut wrong);
    let tried = attacks.all.len() + 2;
    record("attacks", &json!({ "tried": tried, "refused": tried - wrong.len() }));
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n\n"), daemon.log());
    let stored = daemon.get("/v1/tasks").await;
    assert_eq!(stored["tasks"], json!([]), "an attack became a task");
    assert!(!daemon.log().contains("panicked") && !daemon.log().contains(&daemon.token));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_the_connection_can_be_used_or_is_closed_with_notice() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[("MILEPOST_SERVE__WARM_BROWSERS", "0")]));
    let post = |headers: &str| {
        let host = format!("127.0.0.1:{}", daemon.port());
        format!("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}\r\n").into_bytes()
    };
    let raw = |parts: &[&[u8]]| tokio::task::block_in_place(|| daemon.raw(parts, Duration::from_millis(300)));
    let last = [post("Connection: close\r\nContent-Length: 2\r\n"), b"{}".to_vec()].concat();

    // A body that arrives after the refusal was sent is read, and the next request on the connection is answered.
    for (head, body) in
        [(post("Content-Length: 2\r\n"), b"{}".as_slice()), (post("Transfer-Encoding: chunked\r\n"), b"2\r\n{}\r\n0\r\n\r\n")]
    {
        let (status, answer) = raw(&[&head, body, &last]);
        assert_eq!((status, answer.matches("HTTP/1.1 401").count()), (401, 2), "{answer}");
    }
    // If the body does not arrive, is too long to be read, or waits for `100 Continue`, the answer announces that the connection is closed,
    // and it is closed.
    for headers in ["Content-Length: 100\r\n", "Content-Length: 200000\r\n", "Content-Length: 2\r\nExpect: 100-continue\r\n"] {
        let (status, answer) = raw(&[&post(headers)]);
        assert!(status == 401 && answer.to_lowercase().contains("connection: close"), "{headers}{answer}");
    }
}

/// Signs in, and returns the cookie and the CSRF token.
async fn sign_in(daemon: &Daemon, token: &str) -> [String; 2] {
    let response = daemon.send(Method::POST, "/session", Some(json!({ "token": token }))).await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(token), "{cookie}");
    let session: Value = response.json().await.unwrap();
    [cookie.split(';').next().unwrap().to_owned(), session["csrf"].as_str().unwrap().to_owned()]
}

/// Adds requests for foreign hosts (DNS rebinding) and of foreign origins.
fn hosts_and_origins(attacks: &mut Attacks<'_>, port: u16) {
    for foreign in ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "169.254.169.254", "0.0.0.0", "[::]", "milepost"] {
        attacks.get(&format!("rebinding: {foreign}"), 403, "/v1/tasks", &[("Host", &format!("{foreign}:{port}"))]);
        attacks.get(&format!("rebinding, open route: {foreign}"), 403, "/healthz", &[("Host", foreign)]);
    }
    attacks.get("an absolute target of another host", 403, "http://evil.example/v1/tasks", &[]);
    attacks.add("no host", 400, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec());
    attacks.add("two hosts", 400, request("GET /healthz", &[("Host", "127.0.0.1"), ("Host", "evil.example")], ""));
    let others = [format!("http://127.0.0.1:{}", port ^ 1), format!("http://localhost:{port}"), format!("https://127.0.0.1:{port}")];
    for origin in others.iter().map(String::as_str).chain(["https://evil.example", "null", "file://", "http://evil.example:80"]) {
        attacks.get(&format!("origin {origin}"), 403, "/v1/tasks", &[("Origin", origin)]);
        attacks.post(&format!("changing, origin {origin}"), 403, "/v1/improve", &[("Origin", origin)], "{}");
    }
    let preflight = [("Host", attacks.host), ("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    attacks.add("a preflight of another origin", 403, request("OPTIONS /v1/tasks", &preflight, ""));
}

/// Adds requests with missing, wrong and insufficient credentials. `bad` are an expired and a replaced token, `scoped` tokens of the scopes
/// `read` and `run`, `sessions` cookie and CSRF token of an administrator and of another caller.
fn credentials(attacks: &mut Attacks<'_>, bad: &[&str; 2], scoped: &[String; 2], sessions: &[[String; 2]; 2]) {
    let host = ("Host", attacks.host);
    let good = attacks.bearer.strip_prefix("Bearer ").unwrap().to_owned();
    for route in ["/v1/tasks", "/v1/events", "/v1/adapters", "/v1/improve", "/metrics", "/openapi.json", "/docs/", "/session", "/nothing"] {
        attacks.add(&format!("no token for {route}"), 401, request(&format!("GET {route}"), &[host], ""));
    }
    let (cut, swapped, padded) = (&good[..good.len() - 1], good.to_lowercase(), format!("{good}x"));
    for token in ["", "mp_", cut, &swapped, &padded, bad[0], bad[1], "admin", "null"] {
        attacks.get(&format!("token {token:?}"), 401, "/v1/tasks", &[("Authorization", &format!("Bearer {token}"))]);
    }
    attacks.get("another scheme", 401, "/v1/tasks", &[("Authorization", &format!("Basic {good}"))]);
    attacks.add(
        "two tokens",
        401,
        request("GET /v1/tasks", &[host, ("Authorization", attacks.bearer), ("Authorization", attacks.bearer)], ""),
    );
    attacks.add("a token in the query", 401, request(&format!("GET /v1/tasks?token={good}"), &[host], ""));
    attacks.add("a token as cookie", 401, request("GET /v1/tasks", &[host, ("Cookie", &format!("milepost_session={good}"))], ""));
    attacks.add("a forged cookie", 401, request("GET /v1/tasks", &[host, ("Cookie", "milepost_session=admin.99999999999.0.0")], ""));
    attacks.add(
        "a wrong token to sign in",
        401,
        request("POST /session", &[host, ("Content-Type", "application/json")], r#"{"token":"mp_x"}"#),
    );
    let [read, run] = scoped.each_ref().map(|token| format!("Bearer {token}"));
    let task = r#"{"goal":"x","url":"http://127.0.0.1:1/"}"#;
    for (target, body) in
        [("/v1/tasks", task), ("/v1/tasks/x/cancel", ""), ("/v1/tasks/x/approve", ""), ("/v1/tasks/x/feedback", r#"{"success":true}"#)]
    {
        attacks.post(&format!("scope read for {target}"), 403, target, &[("Authorization", &read)], body);
    }
    for target in ["/v1/improve", "/v1/adapters/x/promote", "/v1/adapters/x/rollback"] {
        attacks.post(&format!("scope run for {target}"), 403, target, &[("Authorization", &run)], "{}");
    }
    let [admin, other] = sessions;
    let by_cookie = |csrf: &str| [("Authorization", "-".to_owned()), ("Cookie", admin[0].clone()), ("X-CSRF-Token", csrf.to_owned())];
    for (name, csrf) in [("no", "-"), ("an empty", ""), ("a wrong", "0123"), ("another session's", &other[1]), ("the cookie as", &admin[0])]
    {
        let headers = by_cookie(csrf);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        attacks.post(&format!("CSRF: {name} token"), 403, "/v1/tasks", &headers, task);
    }
    let form = [("Authorization", "-"), ("Cookie", &admin[0]), ("Origin", "https://evil.example"), ("Content-Type", "text/plain")];
    attacks.post("CSRF: a form of another site", 403, "/v1/tasks", &form, task);
}

const TASKS: &str = "/v1/tasks";

/// Adds requests whose body has a wrong type or length, or is not JSON.
fn bodies(attacks: &mut Attacks<'_>) {
    let task = r#"{"goal":"x","url":"http://127.0.0.1:1/"}"#;
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "-"]
    {
        attacks.post(&format!("content type {kind}"), 415, TASKS, &[("Content-Type", kind)], task);
    }
    attacks.post("a length over the limit", 413, TASKS, &[], &format!(r#"{{"goal":"{}"}}"#, "x".repeat(1 << 20)));
    attacks.post("a length that is not sent", 413, TASKS, &[("Content-Length", "99999999999")], "");
    attacks.post("a length that is no number", 400, TASKS, &[("Content-Length", "1e9")], "");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1_100_000, "x".repeat(1_100_000));
    let head = request(
        &format!("POST {TASKS}"),
        &[
            ("Host", attacks.host),
            ("Authorization", attacks.bearer),
            ("Content-Type", "application/json"),
            ("Transfer-Encoding", "chunked"),
        ],
        "",
    );
    attacks.add("chunks over the limit", 413, [head, chunk.into_bytes()].concat());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (name, body) in
        [("no JSON", "{"), ("deep nesting", deep.as_str()), ("a number too great", r#"{"goal":1e999}"#), ("two values", "{} {}")]
    {
        attacks.post(name, 400, TASKS, &[], body);
    }
    let invalid = [
        &request(
            &format!("POST {TASKS}"),
            &[("Host", attacks.host), ("Authorization", attacks.bearer), ("Content-Type", "application/json"), ("Content-Length", "13")],
            "",
        )[..],
        b"{\"goal\":\"\xff\xfe\"}",
    ]
    .concat();
    attacks.add("invalid UTF-8", 400, invalid);
}

/// Adds tasks with a field that is unknown, out of range, or not allowed to the caller.
fn task_fields(attacks: &mut Attacks<'_>) {
    let with = |more: &str| format!(r#"{{"goal":"x","url":"http://127.0.0.1:1/",{more}}}"#);
    let parens = format!(r#""check":"{}""#, "(".repeat(50_000));
    for (name, more) in [
        ("an unknown field", r#""shell":"id""#),
        ("a negative seed", r#""seed":-1"#),
        ("a huge seed", r#""seed":18446744073709551616"#),
        ("a priority out of range", r#""priority":101"#),
        ("a profile outside the directory", r#""profile":"../../etc""#),
        ("a secret outside the directory", r#""secrets":["../token"]"#),
        ("a schema that refers to a URL", r#""output_schema":{"$ref":"http://169.254.169.254/"}"#),
        ("a check of 50,000 parentheses", parens.as_str()),
        ("a limit of zero seconds", r#""limits":{"max_seconds":0}"#),
        ("a limit beyond 32 bits", r#""limits":{"max_steps":4294967296}"#),
    ] {
        attacks.post(name, 422, TASKS, &[], &with(more));
    }
    for url in
        ["file:///etc/passwd", "javascript:alert(1)", "chrome://settings", "http://", "http://user:password@a.org/", "//evil.example/"]
    {
        attacks.post(&format!("a task on {url}"), 422, TASKS, &[], &format!(r#"{{"goal":"x","url":"{url}"}}"#));
    }
    attacks.post("a secret that is not configured", 403, TASKS, &[], &with(r#""secrets":["PATH"]"#));
    attacks.post("a webhook to the metadata service", 403, TASKS, &[], &with(r#""webhook":"http://169.254.169.254/latest""#));
    attacks.post("a webhook to the daemon itself", 403, TASKS, &[], &with(r#""webhook":"http://127.0.0.1:7420/v1/improve""#));
}

/// Adds requests with hostile paths and queries, wrong methods, and heads that cannot be parsed.
fn paths_and_methods(attacks: &mut Attacks<'_>) {
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
        attacks.get(&format!("path {target}"), status, &target, &[]);
    }
    for target in [format!("/v1/tasks/{id}/cancel"), format!("/v1/tasks/{id}/approve"), "/v1/adapters/x/promote".into()] {
        attacks.get(&format!("a change by GET: {target}"), 405, &target, &[]);
    }
    let good = [("Host", attacks.host), ("Authorization", attacks.bearer)];
    for method in ["TRACE", "PUT", "PATCH", "DELETE", "BREW"] {
        attacks.add(&format!("method {method}"), 405, request(&format!("{method} /v1/tasks"), &good, ""));
    }
    attacks.get("a last event id that is no number", 400, "/v1/events", &[("Last-Event-ID", "x")]);
    attacks.get("a head of 300,000 bytes", 431, "/v1/tasks", &[("X-Long", &"x".repeat(300_000))]);
    attacks.add("a TLS handshake in place of HTTP", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec());
}

/// Sends two requests that never end: one whose body is incomplete is answered with 408, one whose head is incomplete is cut off.
fn check_slow_requests(daemon: &Daemon, host: &str, bearer: &str, wrong: &mut Vec<String>) {
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    );
    let (byte, pause) = (b"{".as_slice(), Duration::from_millis(1200));
    let (status, answer) = tokio::task::block_in_place(|| daemon.raw(&[head.as_bytes(), byte, byte, byte], pause));
    if status != 408 {
        wrong.push(format!("a body that arrives byte by byte: {status}: {answer}"));
    }
    let began = std::time::Instant::now();
    let parts: Vec<&[u8]> =
        std::iter::once(b"GET /healthz HTTP/1.1\r\n".as_slice()).chain(std::iter::repeat_n(b"X: 1\r\n".as_slice(), 4)).collect();
    let (status, answer) = tokio::task::block_in_place(|| daemon.raw(&parts, pause));
    if !matches!(status, 0 | 408) || began.elapsed() > CUT_OFF {
        wrong.push(format!("a head that arrives line by line: {status} after {:?}: {answer}", began.elapsed()));
    }
}
