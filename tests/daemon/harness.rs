//! Starts the daemon and sends it requests, as an HTTP client does or as raw bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// A running daemon; it is killed when dropped.
pub struct Daemon {
    child: Child,
    /// The base address, as in `http://127.0.0.1:4711`.
    pub address: String,
    /// The administrator's token.
    pub token: String,
    directory: PathBuf,
    log: Arc<Mutex<String>>,
}

/// An event of a task, as a follower receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedEvent {
    pub id: u64,
    pub kind: String,
    pub data: Value,
}

/// Prepares a run of the binary in this directory, with the seed model and these settings (environment variables).
pub fn command(directory: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    std::fs::create_dir_all(directory.join("tmp")).unwrap();
    command
        .current_dir(directory)
        .args(arguments)
        .env("TMPDIR", directory.join("tmp"))
        .env("MILEPOST_BROWSER__NO_SANDBOX", root.to_string())
        .env("MILEPOST_BROWSER__STATE_DIR", directory.join("browsers"))
        .env("MILEPOST_BROWSER__READ_MS", "5000")
        .env("MILEPOST_EPISODES__DIRECTORY", directory.join("data"))
        .env("MILEPOST_LOCAL__MODEL", concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed"))
        .envs(settings.iter().copied());
    command
}

/// Counts the processes of browsers that were started for this directory.
pub fn browsers(directory: &Path) -> usize {
    let marker = directory.join("tmp").display().to_string();
    let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&marker)).count()
}

impl Daemon {
    /// The arguments with which the daemon is started.
    pub const ARGUMENTS: [&'static str; 7] = ["serve", "--port", "0", "--token-file", "token", "--ready-file", "ready"];

    /// Starts the daemon and waits until it is ready.
    pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_command(directory, command(directory, &Self::ARGUMENTS, settings))
    }

    /// Starts the daemon with a command whose process becomes the daemon, and waits until it is ready.
    pub fn start_command(directory: &Path, mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(String::new()));
        let keep = {
            let log = log.clone();
            move |line: &str| log.lock().unwrap().extend([line, "\n"])
        };
        let ready = lines.by_ref().inspect(|line| keep(line)).any(|line| line.contains("ready at http"));
        assert!(ready, "{}", log.lock().unwrap());
        std::thread::spawn(move || lines.for_each(|line| keep(&line)));
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap().trim().to_owned();
        Self { child, address: read("ready"), token: read("token"), directory: directory.to_owned(), log }
    }

    /// Returns the daemon's log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Makes a token with the command line while the daemon runs. It expires after `days`, if given.
    pub fn make_token(&self, name: &str, scope: &str, days: Option<&str>) -> String {
        let mut arguments = vec!["token", "add", name, "--scope", scope];
        arguments.extend(days.into_iter().flat_map(|days| ["--days", days]));
        self.token_command(&arguments)
    }

    /// Runs a subcommand of `token` and returns what it prints.
    pub fn token_command(&self, arguments: &[&str]) -> String {
        let token_file = self.directory.join("token").display().to_string();
        let output = command(&self.directory, arguments, &[("MILEPOST_SERVE__TOKEN_FILE", &token_file)]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Sends a request with the administrator's token.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let client = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.address)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// Sends a request that must be answered with this status, and returns the answer as JSON (null if it is none).
    pub async fn expect(&self, status: u16, method: Method, path: &str, body: Option<Value>) -> Value {
        let response = self.send(method.clone(), path, body.clone()).await;
        let (got, text) = (response.status().as_u16(), response.text().await.unwrap());
        assert_eq!(got, status, "{method} {path} {body:?}: {text}\n{}", self.log());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn get(&self, path: &str) -> Value {
        self.expect(200, Method::GET, path, None).await
    }

    /// Submits a task with these fields beside goal and URL, and returns its id.
    pub async fn submit(&self, goal: &str, url: &str, fields: Value) -> String {
        let mut body = json!({ "goal": goal, "url": url });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let task = self.expect(201, Method::POST, "/v1/tasks", Some(body)).await;
        task["id"].as_str().unwrap().to_owned()
    }

    /// Returns a task's events after the event number `after`, up to the first one for which `is_last` holds or the end of the stream.
    pub async fn follow(&self, task: &str, after: u64, mut is_last: impl FnMut(&ReceivedEvent) -> bool) -> Vec<ReceivedEvent> {
        let client = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
        let request = client.get(format!("{}/v1/tasks/{task}/events", self.address)).bearer_auth(&self.token);
        let response = request.header("Last-Event-ID", after.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", self.log());
        let (mut bytes, mut text, mut events) = (response.bytes_stream(), String::new(), Vec::new());
        while let Some(Ok(part)) = bytes.next().await {
            text.push_str(&String::from_utf8_lossy(&part));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let event = parse(event);
                text = rest.to_owned();
                if let Some(event) = event {
                    events.push(event);
                    if is_last(events.last().unwrap()) {
                        return events;
                    }
                }
            }
        }
        events
    }

    /// Sends bytes as they are, with a pause after each part. Returns the status and the whole answer, as far as it arrived. The status is 0
    /// if the connection was closed without an answer.
    pub fn raw(&self, parts: &[&[u8]], pause: Duration) -> (u16, String) {
        let connected = TcpStream::connect(("127.0.0.1", self.port()));
        let mut stream = connected.unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        for part in parts {
            if stream.write_all(part).is_err() {
                break;
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        // Bytes that arrived before the connection was reset count, too.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses one event of a stream of server-sent events. Returns `None` for a comment.
fn parse(event: &str) -> Option<ReceivedEvent> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(ReceivedEvent {
        id: field("id:")?.parse().ok()?,
        kind: field("event:")?.to_owned(),
        data: serde_json::from_str(field("data:")?).ok()?,
    })
}
