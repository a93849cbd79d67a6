//! The dependencies between crates, and the libraries that only some crates may depend on. Crates are named by their folders; `src` is the
//! binary, which may depend on all others.

use std::collections::BTreeMap;

use super::packages;

/// For each crate, the other crates of this workspace that it may depend on (for its tests, too).
const ARROWS: [(&str, &[&str]); 12] = [
    ("runtime", &[]),
    ("text", &["runtime"]),
    ("learners", &["runtime"]),
    ("engines", &["learners", "runtime", "text"]),
    ("tools", &["runtime"]),
    ("planners", &["runtime"]),
    ("suites", &["runtime"]),
    ("service", &["runtime"]),
    ("runner", &["planners", "runtime", "service", "tools"]),
    ("improve", &["learners", "runtime", "text"]),
    ("server", &["improve", "runtime", "service"]),
    ("client", &[]),
];

/// Libraries with the crates that may depend on them. Small libraries for general purposes are not listed.
const LIBRARIES: [(&[&str], &[&str]); 20] = [
    // Models, tensors and weights.
    (&["mistralrs", "mistralrs-core", "mistralrs-quant", "candle-nn"], &["engines"]),
    (&["candle-core"], &["engines", "learners"]),
    (&["gemm", "half", "rayon", "safetensors"], &["learners"]),
    // Tokenizers, grammars and templates.
    (&["llguidance", "tokenizers", "minijinja-contrib"], &["text"]),
    (&["minijinja"], &["planners", "server", "text"]),
    // The browser, the content of pages, and the egress proxy.
    (&["fantoccini", "scraper", "cookie_store", "hyper", "http-body-util"], &["tools"]),
    // The daemon's protocols, their security and their telemetry.
    (&["axum"], &["server", "src", "suites"]),
    (&["axum-extra", "axum-server", "http-body", "tower-http"], &["server"]),
    (&["rustls"], &["server"]),
    // The binary names `subtle` for its features only.
    (&["subtle"], &["server", "src"]),
    (&["utoipa"], &["improve", "server"]),
    (&["utoipa-axum", "utoipa-swagger-ui"], &["server"]),
    (&["opentelemetry", "opentelemetry-otlp", "opentelemetry_sdk", "tracing-opentelemetry"], &["server"]),
    (&["metrics-exporter-prometheus"], &["server"]),
    (&["rmcp"], &["server", "tools"]),
    (&["eventsource-stream"], &["client"]),
    // Databases, statistics, and schedules.
    (&["sqlx"], &["runtime", "service"]),
    (&["statrs"], &["improve"]),
    (&["croner"], &["improve"]),
    // The command line, the configuration file, and errors without a type.
    (&["anyhow", "clap", "clap_complete", "figment"], &["src"]),
];

#[test]
fn dependencies_point_in_the_allowed_directions() {
    let packages = packages();
    let folders: BTreeMap<&str, &str> = packages.iter().map(|package| (package.name.as_str(), package.folder.as_str())).collect();
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| package.folder != "src") {
        let from = package.folder.as_str();
        let known = allowed.get(from).unwrap_or_else(|| panic!("{from} is missing in ARROWS and docs/architecture.md"));
        let targets = package.dependencies.iter().filter_map(|dependency| folders.get(dependency.name.as_str()));
        wrong.extend(targets.filter(|to| !known.contains(to)).map(|to| format!("{from} → {to}")));
    }
    assert!(wrong.is_empty(), "dependencies that docs/architecture.md does not allow: {wrong:?}");
}

#[test]
fn libraries_are_dependencies_of_their_crates_only() {
    let mut wrong = Vec::new();
    for package in packages() {
        for dependency in &package.dependencies {
            let listed = LIBRARIES.iter().find(|(libraries, _)| libraries.contains(&dependency.name.as_str()));
            if listed.is_some_and(|(_, crates)| !crates.contains(&package.folder.as_str())) {
                wrong.push(format!("{} → {}", package.folder, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "libraries that belong to other crates: {wrong:?}");
}
