//! kill -9 in the middle of a run: every recorded step is readable, no browser is left after the next start, the next run works.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use milepost_runtime::{EpisodeStore, SqliteStore};
use milepost_suites::template;

/// Processes that hold the profile of a browser started for this directory.
fn browsers(directory: &Path) -> usize {
    let marker = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).map(|line| String::from_utf8_lossy(&line).into_owned());
    processes.filter_map(|entry| of(entry).ok()).filter(|line| line.contains("chrom") && line.contains(&marker)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_loses_nothing_recorded_and_leaves_no_browser() {
    let directory = tempfile::tempdir().unwrap();
    let profiles = directory.path().join("tmp");
    std::fs::create_dir(&profiles).unwrap();
    let instance = template("shop_order_many").unwrap().instantiate(10_000);
    let served = instance.serve().await.unwrap();
    let url = served.url.join(instance.start_path()).unwrap();
    let arguments = ["run", instance.goal(), "--url", url.as_str(), "--max-steps", "12"];
    for kill_after in [1, 3] {
        let seen = tokio::task::block_in_place(|| {
            let mut child = super::command(directory.path(), &arguments).env("TMPDIR", &profiles).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            // Lines of steps carry the model's time; the live view prints them after they are written down.
            let seen = lines.filter(|line| line.contains("[model")).take(kill_after).count();
            child.kill().unwrap();
            child.wait().unwrap();
            seen
        });
        assert_eq!(seen, kill_after);
        let store = SqliteStore::open(&directory.path().join("data")).await.unwrap();
        let last = store.list(1).await.unwrap().remove(0);
        let episode = store.load(&last.id).await.unwrap().unwrap();
        assert!(episode.steps.len() >= kill_after && episode.stop.is_none(), "{} steps, {:?}", episode.steps.len(), episode.stop);
    }
    let output = tokio::task::block_in_place(|| {
        super::command(directory.path(), &["observe", url.as_str(), "--json"]).env("TMPDIR", &profiles).output().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(browsers(&profiles), 0);
}
