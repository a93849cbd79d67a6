//! The processes of a browser: started in a group of their own, written down, and never left behind.
//!
//! Every process of a browser can be told by its **mark**: the path of the profile directory, unique to that browser,
//! which stands in its environment (`MILEPOST_BROWSER`) or on its command line. A process number alone is never trusted.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::owned::die_with_owner;

const MARK: &str = "MILEPOST_BROWSER";
const PROFILE_PREFIX: &str = "milepost-browser-";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// What is written down about a running browser.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    owner_pid: u32,
    owner_start: u64,
    namespace: String,
    boot: String,
    driver_pgid: Option<u32>,
    chromium_pid: Option<u32>,
    profile: PathBuf,
    /// Whether the profile outlives the browser.
    #[serde(default)]
    kept: bool,
}

/// A running ChromeDriver with the browser it starts; all of it dies when this is dropped.
#[derive(Debug)]
pub(super) struct DriverProcess {
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
    /// A directory that cannot be written, or a driver that does not start; the message holds what it printed.
    pub(super) async fn start(chromedriver: &Path, state_dir: &Path, kept: Option<&Path>) -> Result<Self> {
        let cannot = |what: &str, error: std::io::Error| Error::Environment(format!("cannot {what}: {error}"));
        std::fs::create_dir_all(state_dir).map_err(|error| {
            cannot(&format!("create {} (set `browser.state_dir` to a directory that can be written)", state_dir.display()), error)
        })?;
        let profile = profile(kept)?;
        let record = Record {
            owner_pid: std::process::id(),
            owner_start: start_time(std::process::id()).unwrap_or(0),
            namespace: pid_namespace(),
            boot: boot_id(),
            driver_pgid: None,
            chromium_pid: None,
            profile: profile.clone(),
            kept: kept.is_some(),
        };
        let record_file = state_dir.join(format!("{}.json", profile.file_name().unwrap_or_default().to_string_lossy()));
        // Written before the start: a crash in between must still be found.
        write(&record_file, &record)?;
        let mut command = Command::new(chromedriver);
        command.arg("--port=0").env(MARK, &profile).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        own_group(&mut command);
        let mut child = match spawn(command) {
            Ok(child) => child,
            Err(error) => {
                remove(&record_file, &record);
                return Err(cannot(&format!("start {}", chromedriver.display()), error));
            }
        };
        let port = read_port(&mut child);
        let mut driver = Self { child, record, record_file, port: 0, ended: false };
        driver.record.driver_pgid = Some(driver.child.id());
        write(&driver.record_file, &driver.record)?;
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

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The browser's profile directory.
    pub(super) fn profile(&self) -> &Path {
        &self.record.profile
    }

    /// Whether the profile outlives the browser.
    pub(super) fn keeps_profile(&self) -> bool {
        self.record.kept
    }

    /// ChromeDriver's process id, which is also its group's.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes the browser's process id down.
    pub(super) fn set_chromium(&mut self, pid: u32) -> Result<()> {
        self.record.chromium_pid = Some(pid);
        write(&self.record_file, &self.record)
    }

    /// Kills every process of this browser and removes what it wrote. Blocks for some milliseconds.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mark = self.record.profile.clone();
        // Before the driver is waited for, its number cannot have been given to another process.
        kill_group(self.child.id());
        kill_marked(&mark);
        let _ = self.child.wait();
        remove(&self.record_file, &self.record);
    }
}

impl Drop for DriverProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends the browsers of processes that are gone: kills what is left of them and removes their profiles. Returns how many
/// there were. A browser whose owner lives, or was started where this process cannot see, is left alone.
///
/// # Errors
/// A directory that cannot be read.
pub fn reap_orphans(dir: &Path) -> std::io::Result<usize> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut reaped = 0;
    for file in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let Some(record) = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) else {
            continue;
        };
        let rebooted = record.boot != boot_id();
        if !rebooted && (record.namespace != pid_namespace() || is_alive(record.owner_pid, record.owner_start)) {
            continue;
        }
        let named_by_us = record.profile.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROFILE_PREFIX));
        if !named_by_us && !record.kept {
            tracing::warn!(file = %file.display(), "this record of a browser names a profile that is not ours; delete the file");
            continue;
        }
        if !rebooted {
            kill_marked(&record.profile);
        }
        remove(&file, &record);
        reaped += 1;
    }
    Ok(reaped)
}

/// Kills the browser with this process id, if its command line names this profile: one that another driver started.
pub(super) fn kill_foreign(pid: u32, profile: &str) {
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !profile.is_empty() && contains(&command_line, profile.as_bytes()) {
        kill(pid);
    }
}

/// The processes of the browser with this profile that live now.
pub(super) fn marked(profile: &Path) -> Vec<u32> {
    let profile = profile.as_os_str().as_encoded_bytes();
    let environment = [MARK.as_bytes(), b"=", profile].concat();
    let argument = [b"--user-data-dir=".as_slice(), profile].concat();
    let mut parents = HashMap::new();
    let mut found = HashSet::new();
    for pid in processes() {
        let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        if let Some(parent) = stat_field(pid, 4) {
            parents.insert(pid, parent as u32);
        }
        if contains(&read("cmdline"), &argument) || contains(&read("environ"), &environment) {
            found.insert(pid);
        }
    }
    found.remove(&std::process::id());
    // Renderers overwrite their environment to show a title: they are known by their ancestors.
    let descends = |mut pid: u32| {
        while let Some(&parent) = parents.get(&pid) {
            if found.contains(&parent) {
                return true;
            }
            pid = parent;
        }
        false
    };
    let mut all: Vec<u32> = parents.keys().copied().filter(|pid| found.contains(pid) || descends(*pid)).collect();
    all.retain(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()));
    all.sort_unstable();
    all
}

/// Memory in MiB that the processes of this session (see setsid(2)) hold for themselves alone.
pub(super) fn own_memory_mib(session: u32) -> u64 {
    const PAGES_PER_MIB: u64 = 256;
    let own = |pid: u32| {
        let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let mut pages = pages.split(' ').skip(1).map_while(|field| field.parse::<u64>().ok());
        pages.next().unwrap_or(0).saturating_sub(pages.next().unwrap_or(0))
    };
    let members = processes().into_iter().filter(|pid| stat_field(*pid, 6) == Some(u64::from(session)));
    members.map(own).sum::<u64>() / PAGES_PER_MIB
}

/// Ends a browser that holds too much memory; whoever drives it finds it gone.
pub(super) fn kill_browser(profile: &Path) {
    marked(profile).into_iter().for_each(kill);
}

fn kill_marked(profile: &Path) {
    for _ in 0..100 {
        let left = marked(profile);
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(kill);
        std::thread::sleep(Duration::from_millis(5));
    }
    tracing::warn!(profile = %profile.display(), "some processes of this browser do not die");
}

fn kill(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes two numbers and touches no memory of ours; a process that is gone is an error that may be ignored.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

fn kill_group(pgid: u32) {
    if let Ok(pgid) = libc::pid_t::try_from(pgid) {
        // SAFETY: as for `kill`; the group is a child of ours that has not been waited for.
        unsafe { libc::killpg(pgid, libc::SIGKILL) };
    }
}

/// The profile's directory: the kept one, by its one name, or a fresh one.
fn profile(kept: Option<&Path>) -> Result<PathBuf> {
    let cannot = |what: &str, error: std::io::Error| Error::Environment(format!("cannot create a profile directory in {what}: {error}"));
    if let Some(kept) = kept {
        // The name at the end is the same for all, so that no profile's path is the beginning of another's.
        let kept = &kept.join("chromium");
        let made = std::fs::create_dir_all(kept).and_then(|()| kept.canonicalize());
        return made.map_err(|error| cannot(&kept.display().to_string(), error));
    }
    let fresh = tempfile::Builder::new().prefix(PROFILE_PREFIX).tempdir();
    let place = || format!("{} (set TMPDIR to a directory with room)", std::env::temp_dir().display());
    fresh.map(tempfile::TempDir::keep).map_err(|error| cannot(&place(), error))
}

fn remove(record_file: &Path, record: &Record) {
    // A dying process may still have written a file: try again.
    for _ in 0..if record.kept { 0 } else { 5 } {
        match std::fs::remove_dir_all(&record.profile) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    let _ = std::fs::remove_file(record_file);
}

fn write(file: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_vec(record).map_err(|error| Error::Environment(format!("cannot write {}: {error}", file.display())))?;
    let draft = file.with_extension("new");
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, file)).map_err(|error| {
        Error::Environment(format!("cannot write {}: {error}; set `browser.state_dir` to a directory with room", file.display()))
    })
}

/// Makes the command a session of its own that dies with the thread that starts it.
fn own_group(command: &mut Command) {
    // SAFETY: between fork and exec only setsid runs, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
    }
    die_with_owner(command);
}

type Start = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a command from a thread that lives as long as this process: the kernel sends a child its parent-death signal when
/// the *thread* that started it ends, and a runtime's threads come and go.
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

/// Reads the port from what ChromeDriver prints; what it printed instead, if it ends without one.
fn read_port(child: &mut Child) -> oneshot::Receiver<std::result::Result<u16, String>> {
    let (sender, receiver) = oneshot::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaints = std::thread::spawn(move || stderr.map(|stream| drain(stream, |_| false)).unwrap_or_default());
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        let printed = stdout.map(|stream| drain(stream, |line| announce(line, &mut sender))).unwrap_or_default();
        if let Some(sender) = sender {
            let complaints = complaints.join().unwrap_or_default();
            let _ = sender.send(Err(format!("{printed} {complaints}").trim().chars().take(500).collect()));
        }
    });
    receiver
}

fn announce(line: &str, sender: &mut Option<oneshot::Sender<std::result::Result<u16, String>>>) -> bool {
    let port = line.split_once("started successfully on port ").and_then(|(_, rest)| rest.trim_end_matches('.').parse().ok());
    match (port, sender.take()) {
        (Some(port), Some(waiting)) => waiting.send(Ok(port)).is_ok(),
        (_, waiting) => {
            *sender = waiting;
            false
        }
    }
}

/// Reads a stream to its end, so that the writer never blocks; keeps the first lines.
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

fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A numeric field of `/proc/<pid>/stat`, numbered as in proc(5).
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces; the third field follows it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

/// When a process started, in ticks since boot: tells a process from a later one with its number.
fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// Whether the process that started then still runs (one that only waits to be reaped does not).
fn is_alive(pid: u32, started: u64) -> bool {
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])));
    start_time(pid) == Some(started) && !zombie
}

fn pid_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
