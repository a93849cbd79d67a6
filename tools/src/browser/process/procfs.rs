//! Information about processes from `/proc` (see proc(5)). On systems without `/proc` no processes are found.

/// Returns the ids of all processes.
pub(super) fn process_ids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Returns a file of a process, such as `cmdline`; empty where it cannot be read.
pub(super) fn read(pid: u32, file: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// Returns a numeric field of `/proc/<pid>/stat`, numbered as in proc(5).
pub(super) fn stat_field(pid: u32, number: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain spaces; the third field follows it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

/// Returns when a process started, in ticks since boot. This distinguishes a process from a later one with the same id.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// Whether the process with this id and start time still runs. A zombie (one that only waits to be reaped) does not run.
pub(super) fn is_alive(pid: u32, started: u64) -> bool {
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])));
    start_time(pid) == Some(started) && !zombie
}

/// Returns the name of this process's PID namespace.
pub(super) fn pid_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the id of the running boot.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
