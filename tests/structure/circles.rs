//! Circles between files: a file that names something defined in another, which names, directly or through others, something of the first.
//!
//! `edges.rs` says what counts as naming. A module's own file belongs to its folder: `foo.rs` beside `foo/` is in `foo/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::edges::{Edges, edges};
use super::packages;

/// Circles of files that belong together, each with the reason. All files of one are in one folder.
const ALLOWED: [(&[&str], &str); 0] = [];

/// Returns the files that can be reached from a file over one edge or more.
fn reachable(edges: &Edges, from: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(file) = next.pop() {
        next.extend(edges[&file].keys().filter(|target| found.insert((*target).clone())).cloned());
    }
    found
}

/// Returns the largest sets of files that all reach each other.
pub fn circles(edges: &Edges) -> BTreeSet<BTreeSet<PathBuf>> {
    let reach: BTreeMap<&PathBuf, BTreeSet<PathBuf>> = edges.keys().map(|file| (file, reachable(edges, file))).collect();
    let reaches_itself = |file: &&PathBuf| reach[*file].contains(*file);
    let circle = |file: &PathBuf| reach[file].iter().filter(|other| reach[other].contains(file)).cloned().collect();
    edges.keys().filter(reaches_itself).map(circle).collect()
}

/// Returns the folder that a file belongs to.
fn folder(file: &Path) -> PathBuf {
    let own = file.with_extension("");
    if own.is_dir() { own } else { file.parent().unwrap().to_owned() }
}

/// Lists the edges inside a circle, each with the path that makes it.
fn describe(circle: &BTreeSet<PathBuf>, edges: &Edges, short: impl Fn(&Path) -> String) -> Vec<String> {
    let inner = |file: &PathBuf| {
        let targets = edges[file].iter().filter(|(target, _)| circle.contains(*target));
        targets.map(|(target, path)| format!("{} → {} ({path})", short(file), short(target))).collect::<Vec<_>>()
    };
    circle.iter().flat_map(inner).collect()
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let short = |file: &Path| file.strip_prefix(root).unwrap().display().to_string();
    let (mut wrong, mut seen, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for package in packages() {
        let base = if package.folder == "src" { root.join("src") } else { root.join(&package.folder).join("src") };
        let edges = edges(&base.join("lib.rs"));
        count += edges.values().map(BTreeMap::len).sum::<usize>();
        for circle in circles(&edges) {
            let names: Vec<String> = circle.iter().map(|file| short(file)).collect();
            let folders: BTreeSet<PathBuf> = circle.iter().map(|file| folder(file)).collect();
            let allowed = folders.len() == 1 && ALLOWED.iter().any(|(files, _)| *files == names);
            if !allowed {
                let folders: Vec<String> = folders.iter().map(|folder| short(folder)).collect();
                wrong.push((format!("{} files of {}", circle.len(), folders.join(", ")), describe(&circle, &edges, short)));
            }
            seen.insert(names);
        }
    }
    assert!(count > 500, "only {count} edges were found: the files are not read as they should be");
    assert!(wrong.is_empty(), "what the files share goes into a file of its own, below both: {wrong:#?}");
    let gone = ALLOWED.iter().filter(|(files, _)| !seen.contains(&files.iter().map(ToString::to_string).collect::<Vec<_>>()));
    assert_eq!(gone.count(), 0, "a circle in ALLOWED does not exist any more: remove it there");
}
