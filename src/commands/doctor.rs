//! `milepost doctor`: what is there, what is missing, and the fix.

use std::path::Path;

use anyhow::Result;
use milepost_tools::browser::{Finding, diagnose};

use super::print_json;
use crate::cli::JsonArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::serving;

/// Least free space that recording should find, bytes.
const FREE_SPACE: u64 = 1 << 30;

/// Checks everything a run needs.
pub fn doctor(args: &JsonArgs, config: &Config) -> Result<Exit> {
    let mut findings = vec![version(), processor(), model(config), disk(&config.episodes.directory)];
    findings.extend(diagnose(&config.browser));
    let well = findings.iter().all(|finding| finding.ok);
    match args.json {
        true => print_json(&findings)?,
        false => {
            for finding in &findings {
                println!("{} {:<12} {}", if finding.ok { "✓" } else { "✗" }, finding.name, finding.detail);
                if !finding.ok {
                    println!("               fix: {}", finding.fix);
                }
            }
        }
    }
    Ok(if well { Exit::Done } else { Exit::Environment })
}

fn finding(name: &str, ok: bool, detail: String, fix: &str) -> Finding {
    Finding { name: name.into(), ok, detail, fix: fix.into() }
}

fn version() -> Finding {
    finding("milepost", true, env!("CARGO_PKG_VERSION").into(), "")
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    #[cfg(target_arch = "x86_64")]
    let vectors = if is_x86_feature_detected!("avx512f") { "AVX-512" } else { "AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = std::env::consts::ARCH;
    finding("processor", cores > 0, format!("{cores} cores, {vectors}"), "the number of cores cannot be read")
}

fn model(config: &Config) -> Finding {
    let Some(model) = config.base() else { return finding("model", true, format!("remote: {}", config.remote.url), "") };
    // What the engine itself would say of it.
    let found = serving::base(config);
    let detail = found.as_ref().map_or_else(|error| format!("{error:#}"), |_| model.display().to_string());
    finding(
        "model",
        found.is_ok(),
        detail,
        "set `local.model` (or `remote.base`) to a complete directory, or train one with `milepost learn sft --out runs/seed`",
    )
}

fn disk(directory: &Path) -> Finding {
    let existing = directory.ancestors().find(|folder| folder.exists() && !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let free = free_space(existing);
    let ok = free.is_some_and(|free| free >= FREE_SPACE);
    let detail = match free {
        Some(free) => format!("{:.1} GB free for {}", free as f64 / 1e9, directory.display()),
        None => format!("the free space of {} cannot be read", existing.display()),
    };
    finding("disk", ok, detail, "free some space, prune with `milepost episodes prune`, or move `episodes.directory`")
}

/// Free bytes of the file system that holds `path`.
fn free_space(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `stat` is large enough for the call's answer, which is read only on success.
    let stat = unsafe { (libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
