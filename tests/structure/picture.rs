//! Compares the graph of the crates in `docs/architecture.md` with `cargo metadata`.

use std::collections::BTreeSet;

use super::packages;

const DOCUMENT: &str = include_str!("../../docs/architecture.md");

/// Returns the arrows `from --> to` of the document's Mermaid graph.
fn drawn_arrows() -> BTreeSet<(String, String)> {
    let (_, after) = DOCUMENT.split_once("```mermaid\n").expect("docs/architecture.md has a graph");
    let (graph, _) = after.split_once("```").expect("the graph ends");
    let arrow = |line: &str| {
        let (from, to) = line.trim().split_once(" --> ")?;
        Some(to.split(" & ").map(|to| (from.to_owned(), to.trim().to_owned())).collect::<Vec<_>>())
    };
    graph.lines().filter_map(arrow).flatten().collect()
}

#[test]
fn the_graph_shows_the_dependencies_of_all_crates() {
    let packages = packages();
    let folder = |name: &str| packages.iter().find(|package| package.name == name).map(|package| package.folder.clone());
    let mut real = BTreeSet::new();
    for package in &packages {
        let dependencies = package.dependencies.iter().filter(|dependency| !dependency.for_tests);
        real.extend(dependencies.filter_map(|dependency| Some((package.folder.clone(), folder(&dependency.name)?))));
    }
    let drawn = drawn_arrows();
    let missing: Vec<_> = real.difference(&drawn).collect();
    let surplus: Vec<_> = drawn.difference(&real).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing in the graph: {missing:?}; drawn, but no dependency: {surplus:?}");
}
