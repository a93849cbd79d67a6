//! The processes of a daemon: the daemon itself, its browsers, and their drivers.

use std::collections::BTreeSet;
use std::path::Path;

/// A process that was started for a directory.
pub struct Process {
    pub id: u32,
    /// Whether it is a browser or a driver.
    pub is_browser: bool,
    /// The proportional set size in KiB: memory that is shared with other processes counts by its share (proc(5), `smaps_rollup`).
    pub memory: u64,
}

/// Lists all processes whose environment has `TMPDIR` in this directory.
pub fn list(directory: &Path) -> Vec<Process> {
    let marker = format!("TMPDIR={}", directory.join("tmp").display());
    let read = |id: u32, file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    let ids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = ids.filter(|id| read(*id, "environ").split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes()));
    ours.map(|id| {
        let program = read(id, "cmdline").split(|byte| *byte == 0).next().map(<[u8]>::to_vec).unwrap_or_default();
        let rollup = String::from_utf8_lossy(&read(id, "smaps_rollup")).into_owned();
        let memory = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
        Process { id, is_browser: String::from_utf8_lossy(&program).contains("chrom"), memory: memory.unwrap_or(0) }
    })
    .collect()
}

/// Returns the ids of the browsers and drivers that were started for this directory.
pub fn browsers(directory: &Path) -> BTreeSet<u32> {
    list(directory).into_iter().filter(|process| process.is_browser).map(|process| process.id).collect()
}
