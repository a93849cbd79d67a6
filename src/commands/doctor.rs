//! `milepost doctor`: checks what a run needs, and says how to fix what is missing.

use std::path::Path;

use anyhow::Result;
use milepost_engines::backend;
use milepost_runtime::store::reclaim::free_bytes;
use milepost_tools::browser::{Finding, diagnose};

use crate::cli::JsonArgs;
use crate::config::{Config, EngineKind};
use crate::exit::Exit;
use crate::output::print_json;
use crate::{model, processor};

/// The minimum free space for recordings, in bytes.
const MIN_FREE_BYTES: u64 = 1 << 30;
/// What to do if the model cannot be used.
const MODEL_FIX: &str =
    "set `local.model` (or `remote.base`) to a complete directory, or train one with `milepost learn sft --out runs/seed`";
/// What to do if this build lacks the backend that computes the model.
const BACKEND_FIX: &str = "build it in with `make build` or `cargo build --features mistralrs`, or set `local.model` to a directory of safetensors of Qwen3, Qwen2 or Llama";

/// Checks everything that a run needs, and prints the findings.
pub fn doctor(args: &JsonArgs, config: &Config) -> Result<Exit> {
    let mut findings = vec![version_finding(), processor_finding(), model_finding(config)];
    findings.extend(backend_finding(config));
    findings.push(disk_finding(&config.episodes.directory));
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

fn version_finding() -> Finding {
    finding("milepost", true, env!("CARGO_PKG_VERSION").into(), "")
}

fn processor_finding() -> Finding {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let detail = format!("{cores} cores, {}", processor::vector_instructions());
    finding("processor", cores > 0, detail, "the number of cores cannot be read")
}

fn model_finding(config: &Config) -> Finding {
    let Some(model) = config.base() else { return finding("model", true, format!("remote: {}", config.remote.url), "") };
    // The engine computes the same hash when it loads the model, so it would fail with the same error.
    let found = model::base_generation(config);
    let detail = found.as_ref().map_or_else(|error| format!("{error:#}"), |_| model.display().to_string());
    finding("model", found.is_ok(), detail, MODEL_FIX)
}

/// Returns the finding about the backend: which one would compute the model on this machine, and why. Returns `None` if a server computes
/// it.
fn backend_finding(config: &Config) -> Option<Finding> {
    if config.engine == EngineKind::Remote {
        return None;
    }
    Some(match backend::choose(&config.local) {
        Ok(choice) => finding("backend", true, format!("{}: {}", choice.backend.name(), choice.reason), ""),
        Err(error) => {
            let fix = if model::base_generation(config).is_ok() { BACKEND_FIX } else { MODEL_FIX };
            finding("backend", false, error.to_string(), fix)
        }
    })
}

fn disk_finding(directory: &Path) -> Finding {
    let existing = directory.ancestors().find(|folder| folder.exists() && !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let free = free_bytes(existing).ok();
    let ok = free.is_some_and(|free| free >= MIN_FREE_BYTES);
    let detail = match free {
        Some(free) => format!("{:.1} GB free for {}", free as f64 / 1e9, directory.display()),
        None => format!("the free space of {} cannot be read", existing.display()),
    };
    finding("disk", ok, detail, "free some space, prune with `milepost episodes prune`, or move `episodes.directory`")
}

#[cfg(test)]
mod tests {
    use milepost_engines::Backend;

    use super::*;

    fn config(model: &str, backend: Backend) -> Config {
        let mut config = Config::default();
        (config.local.model, config.local.backend) = (format!("{}/{model}", env!("CARGO_MANIFEST_DIR")), backend);
        config
    }

    #[test]
    fn the_backend_is_named_with_its_reason() {
        let native = backend_finding(&config("models/seed", Backend::Native)).unwrap();
        assert_eq!((native.ok, native.name.as_str()), (true, "backend"));
        assert_eq!(native.detail, "native: `local.backend` asks for it");
        assert!(backend_finding(&config("models/seed", Backend::Auto)).unwrap().ok);
        let missing = backend_finding(&config("models/nothing", Backend::Auto)).unwrap();
        assert_eq!((missing.ok, missing.fix.as_str()), (false, MODEL_FIX), "{}", missing.detail);
    }

    #[test]
    fn a_model_on_a_server_has_no_backend_here() {
        assert_eq!(backend_finding(&Config { engine: EngineKind::Remote, ..Config::default() }), None);
    }

    #[cfg(not(feature = "mistralrs"))]
    #[test]
    fn a_backend_that_this_build_lacks_is_refused_with_the_command_that_builds_it() {
        let lacking = backend_finding(&config("models/seed", Backend::Mistralrs)).unwrap();
        assert!(!lacking.ok && lacking.fix.contains("cargo build --features mistralrs"), "{lacking:?}");
    }
}
