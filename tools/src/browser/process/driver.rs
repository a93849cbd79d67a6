//! A running ChromeDriver and the browser that it starts.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use milepost_runtime::process::die_with_owner;
use milepost_runtime::{Error, Result};
use tokio::sync::oneshot;

use super::marked::{MARK, kill_all};
use super::record::{Record, create_profile};

/// The maximum time in which ChromeDriver must report its port.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running ChromeDriver and the browser that it starts. Dropping it kills all their processes.
#[derive(Debug)]
pub(crate) struct DriverProcess {
    child: Child,
    record: Record,
    record_file: PathBuf,
    port: u16,
    ended: bool,
}

impl DriverProcess {
    /// Starts ChromeDriver on a free port.
    ///
    /// # Errors
    /// A directory cannot be written, or the driver does not start; the message has what the driver printed.
    pub(crate) async fn start(chromedriver: &Path, state_dir: &Path, kept: Option<&Path>) -> Result<Self> {
        let cannot = |what: &str, error: std::io::Error| Error::Environment(format!("cannot {what}: {error}"));
        std::fs::create_dir_all(state_dir).map_err(|error| {
            cannot(&format!("create {} (set `browser.state_dir` to a directory that can be written)", state_dir.display()), error)
        })?;
        let profile = create_profile(kept)?;
        let record = Record::new(profile.clone(), kept.is_some());
        let record_file = state_dir.join(format!("{}.json", profile.file_name().unwrap_or_default().to_string_lossy()));
        // The record is written before the driver starts, so that a later process finds the browser even after a crash in between.
        record.write(&record_file)?;
        let mut command = Command::new(chromedriver);
        command.arg("--port=0").env(MARK, &profile).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        own_session(&mut command);
        let mut child = match spawn(command) {
            Ok(child) => child,
            Err(error) => {
                record.remove(&record_file);
                return Err(cannot(&format!("start {}", chromedriver.display()), error));
            }
        };
        let port = read_port(&mut child);
        let mut driver = Self { child, record, record_file, port: 0, ended: false };
        driver.record.driver_pgid = Some(driver.child.id());
        driver.record.write(&driver.record_file)?;
        match tokio::time::timeout(START_TIMEOUT, port).await {
            Ok(Ok(Ok(port))) => driver.port = port,
            Ok(Ok(Err(printed))) => {
                return Err(Error::Environment(format!("{} did not start; it printed: {printed}", chromedriver.display())));
            }
            _ => {
                return Err(Error::Environment(format!(
                    "{} did not start within {START_TIMEOUT:?}; run it by hand to see why",
                    chromedriver.display()
                )));
            }
        }
        Ok(driver)
    }

    /// The address at which ChromeDriver listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The browser's profile directory.
    pub(crate) fn profile(&self) -> &Path {
        &self.record.profile
    }

    /// Whether the profile is kept when the browser ends.
    pub(crate) fn keeps_profile(&self) -> bool {
        self.record.kept
    }

    /// ChromeDriver's process id, which is also the id of its process group and session.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Adds the browser's process id to the record.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(crate) fn set_chromium(&mut self, pid: u32) -> Result<()> {
        self.record.chromium_pid = Some(pid);
        self.record.write(&self.record_file)
    }

    /// Kills all processes of driver and browser, and removes the record and, unless it is kept, the profile. Blocks for some milliseconds.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // As long as this process has not waited for the driver, the system cannot give its id to another process.
        kill_group(self.child.id());
        kill_all(&self.record.profile);
        let _ = self.child.wait();
        self.record.remove(&self.record_file);
    }
}

impl Drop for DriverProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the command run in a session and process group of its own, and be killed when the thread that starts it ends.
fn own_session(command: &mut Command) {
    // SAFETY: between fork and exec only setsid runs, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
    }
    die_with_owner(command);
}

fn kill_group(pgid: u32) {
    if let Ok(pgid) = libc::pid_t::try_from(pgid) {
        // SAFETY: killpg takes two numbers and touches no memory of ours; the group is a child of ours that has not been waited for.
        unsafe { libc::killpg(pgid, libc::SIGKILL) };
    }
}

/// A command to start, and where to send the child process.
type Start = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a command from a thread that lives as long as this process. The kernel sends a child its parent-death signal when the *thread*
/// that started it ends, and the threads of an async runtime may end at any time.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Start>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Start>();
        let run = move || receiver.iter().for_each(|(mut command, reply)| drop(reply.send(command.spawn())));
        if let Err(error) = std::thread::Builder::new().name("browser-spawner".into()).spawn(run) {
            tracing::error!(%error, "no thread can be started");
        }
        sender
    });
    let gone = || std::io::Error::other("the thread that starts browsers is gone");
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Reads ChromeDriver's output in threads of its own. The channel gets the port, or all that was printed if the output ends without a port.
fn read_port(child: &mut Child) -> oneshot::Receiver<std::result::Result<u16, String>> {
    let (sender, receiver) = oneshot::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || stderr.map(|stream| drain(stream, |_| false)).unwrap_or_default());
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        let printed = stdout.map(|stream| drain(stream, |line| send_port(line, &mut sender))).unwrap_or_default();
        if let Some(sender) = sender {
            let errors = errors.join().unwrap_or_default();
            let _ = sender.send(Err(format!("{printed} {errors}").trim().chars().take(500).collect()));
        }
    });
    receiver
}

/// Sends the port if this line of ChromeDriver's output has it; returns true if it was sent.
fn send_port(line: &str, sender: &mut Option<oneshot::Sender<std::result::Result<u16, String>>>) -> bool {
    let port = line.split_once("started successfully on port ").and_then(|(_, rest)| rest.trim_end_matches('.').parse().ok());
    match (port, sender.take()) {
        (Some(port), Some(waiting)) => waiting.send(Ok(port)).is_ok(),
        (_, waiting) => {
            *sender = waiting;
            false
        }
    }
}

/// Reads a stream to its end, so that the writer never blocks, and calls `each` with each line. Returns the first lines, joined, about
/// 1,000 bytes.
fn drain(stream: impl std::io::Read, mut each: impl FnMut(&str) -> bool) -> String {
    let mut kept = String::new();
    for line in BufReader::new(stream).lines().map_while(std::io::Result::ok) {
        each(&line);
        if kept.len() < 1000 {
            kept.push_str(&line);
            kept.push(' ');
        }
    }
    kept
}
