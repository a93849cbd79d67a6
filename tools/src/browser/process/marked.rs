//! Finds and kills the processes that carry a browser's mark.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use super::procfs::{process_ids, read, stat_field};

/// The environment variable that holds the mark.
pub(super) const MARK: &str = "MILEPOST_BROWSER";

/// Returns the ids of the running processes of the browser with this profile.
pub(crate) fn marked_processes(profile: &Path) -> Vec<u32> {
    let profile = profile.as_os_str().as_encoded_bytes();
    let environment = [MARK.as_bytes(), b"=", profile].concat();
    let argument = [b"--user-data-dir=".as_slice(), profile].concat();
    let mut parents = HashMap::new();
    let mut found = HashSet::new();
    for pid in process_ids() {
        if let Some(parent) = stat_field(pid, 4) {
            parents.insert(pid, parent as u32);
        }
        if contains(&read(pid, "cmdline"), &argument) || contains(&read(pid, "environ"), &environment) {
            found.insert(pid);
        }
    }
    found.remove(&std::process::id());
    // Renderers overwrite their environment with the title that they show: they are recognised by their ancestors.
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
    all.retain(|pid| !read(*pid, "cmdline").is_empty());
    all.sort_unstable();
    all
}

/// Returns the resident memory in MiB that the processes of this session (see setsid(2)) do not share with files or other processes.
pub(crate) fn private_memory_mib(session: u32) -> u64 {
    const PAGES_PER_MIB: u64 = 256;
    let private_pages = |pid: u32| {
        let pages = String::from_utf8_lossy(&read(pid, "statm")).into_owned();
        let mut pages = pages.split(' ').skip(1).map_while(|field| field.parse::<u64>().ok());
        let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        resident.saturating_sub(shared)
    };
    let members = process_ids().into_iter().filter(|pid| stat_field(*pid, 6) == Some(u64::from(session)));
    members.map(private_pages).sum::<u64>() / PAGES_PER_MIB
}

/// Kills the running processes of a browser. The browser's session notices this at its next call.
pub(crate) fn kill_browser(profile: &Path) {
    marked_processes(profile).into_iter().for_each(kill);
}

/// Kills the processes of a browser until none is left; gives up after half a second.
pub(super) fn kill_all(profile: &Path) {
    for _ in 0..100 {
        let left = marked_processes(profile);
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(kill);
        std::thread::sleep(Duration::from_millis(5));
    }
    tracing::warn!(profile = %profile.display(), "some processes of this browser do not die");
}

/// Kills one process, if its command line names this profile. This ends a browser that was started by a WebDriver server from elsewhere.
pub(crate) fn kill_if_marked(pid: u32, profile: &str) {
    if !profile.is_empty() && contains(&read(pid, "cmdline"), profile.as_bytes()) {
        kill(pid);
    }
}

fn kill(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes two numbers and touches no memory of ours; a process that is gone is an error that may be ignored.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
