//! The processes of one daemon: itself, its browsers, their drivers.

use std::collections::BTreeSet;
use std::path::Path;

/// A process that was started for a directory.
pub struct Process {
    pub id: u32,
    pub browser: bool,
    /// Memory in KiB: the share of this process, where it shares pages with others.
    pub memory: u64,
}

/// All processes that inherited this directory's environment.
pub fn of(directory: &Path) -> Vec<Process> {
    let marker = format!("TMPDIR={}", directory.join("tmp").display());
    let read = |id: u32, file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    let ids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = ids.filter(|id| read(*id, "environ").split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes()));
    ours.map(|id| {
        let program = read(id, "cmdline").split(|byte| *byte == 0).next().map(<[u8]>::to_vec).unwrap_or_default();
        let rollup = String::from_utf8_lossy(&read(id, "smaps_rollup")).into_owned();
        let memory = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
        Process { id, browser: String::from_utf8_lossy(&program).contains("chrom"), memory: memory.unwrap_or(0) }
    })
    .collect()
}

/// The ids of browsers and drivers.
pub fn browsers(directory: &Path) -> BTreeSet<u32> {
    of(directory).into_iter().filter(|process| process.browser).map(|process| process.id).collect()
}
