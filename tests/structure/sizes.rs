//! Bounds on the lengths of files and of the binary's crate. The bound on functions is a lint of clippy's (`clippy.toml`).

use super::sources::all_sources;

/// Files of more than 400 lines, each with the reason why it is not split.
const LONG: [(&str, &str); 0] = [];

#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    for source in all_sources() {
        let lines = source.text.lines().count();
        let listed = LONG.iter().any(|(path, _)| *path == source.path);
        if lines > 500 || (lines > 400) != listed {
            wrong.push(format!("{} has {lines} lines{}", source.path, if listed { " and is in LONG" } else { "" }));
        }
    }
    assert!(wrong.is_empty(), "split along a seam, or give the reason in LONG (401 to 500 lines): {wrong:#?}");
}

#[test]
fn the_binary_has_at_most_5_000_lines() {
    let sources = all_sources();
    let lines: usize = sources.iter().filter(|source| source.path.starts_with("src/")).map(|source| source.text.lines().count()).sum();
    assert!((1_000..=5_000).contains(&lines), "src/ has {lines} lines: arguments, wiring and printing belong there, logic into a crate");
}

#[test]
fn the_agent_loop_has_fewer_than_200_lines() {
    let sources = all_sources();
    let agent = sources.iter().find(|source| source.path == "runtime/src/agent.rs").expect("runtime/src/agent.rs is the agent's loop");
    assert!(agent.text.lines().count() < 200, "runtime/src/agent.rs has {} lines", agent.text.lines().count());
}
