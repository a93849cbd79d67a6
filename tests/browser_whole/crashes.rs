//! Runs that are interrupted or killed, and browsers that are killed: every recorded step can be read, no browser is left after the next
//! start, and the next run works.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use milepost_runtime::{Episode, EpisodeStore, SqliteStore, Stop};
use milepost_suites::template;

/// Starts a long run of the seed model and returns it once it has printed `steps` steps. The returned thread reads the rest of the output.
fn start_run(directory: &Path, url: &str, goal: &str, steps: usize) -> (Child, std::thread::JoinHandle<()>) {
    let profiles = directory.join("tmp");
    std::fs::create_dir_all(&profiles).unwrap();
    let arguments = ["run", goal, "--url", url, "--max-steps", "40"];
    let mut child =
        super::command(directory, &arguments).env("TMPDIR", &profiles).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The line of a step names the model's time. The live view prints it after the step is stored.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.by_ref().filter(|line| line.contains("[model")).take(steps).count(), steps);
    (child, std::thread::spawn(move || lines.for_each(drop)))
}

/// Loads the episode that was stored last.
async fn latest_episode(directory: &Path) -> Episode {
    let store = SqliteStore::open(&directory.join("data")).await.unwrap();
    let last = store.list(1).await.unwrap().remove(0);
    store.load(&last.id).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_run_and_marks_its_episode_as_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let instance = template("shop_order_many").unwrap().instantiate(10_001);
    let served = instance.serve().await.unwrap();
    let url = served.url.join(instance.start_path()).unwrap();
    let code = tokio::task::block_in_place(|| {
        let (mut child, reader) = start_run(directory.path(), url.as_str(), instance.goal(), 2);
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        reader.join().unwrap();
        child.wait().unwrap().code()
    });
    let episode = latest_episode(directory.path()).await;
    assert_eq!((code, &episode.stop), (Some(4), &Some(Stop::Cancelled)));
    assert!(episode.steps.len() >= 2 && episode.ended_at.is_some());
    assert_eq!(browsers(&directory.path().join("tmp")).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_is_started_again_during_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let instance = template("shop_order_many").unwrap().instantiate(10_002);
    let served = instance.serve().await.unwrap();
    let url = served.url.join(instance.start_path()).unwrap();
    let (mut steps, mut stderr) = (Vec::new(), String::new());
    tokio::task::block_in_place(|| {
        let (mut child, reader) = start_run(directory.path(), url.as_str(), instance.goal(), 2);
        for browser in browsers(&directory.path().join("tmp")) {
            Command::new("kill").args(["-KILL", &browser.to_string()]).status().unwrap();
        }
        reader.join().unwrap();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
        child.wait().unwrap();
    });
    let episode = latest_episode(directory.path()).await;
    steps.extend(episode.steps.iter().map(|step| step.outcome.ok));
    assert!(stderr.contains("starting the browser once more"), "{stderr}");
    assert!(steps.len() > 4 && steps[3..].contains(&true), "it acts again in the new browser: {steps:?}, {:?}", episode.stop);
    assert!(!matches!(episode.stop, None | Some(Stop::Failed(_))), "{:?}", episode.stop);
}

/// Returns the ids of the processes of browsers that were started for this directory. Their command lines contain it.
fn browsers(directory: &Path) -> Vec<u32> {
    let marker = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let command_line =
        |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).map(|line| String::from_utf8_lossy(&line).into_owned());
    let id = |entry: &std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    let named = processes.filter_map(|entry| Some((id(&entry)?, command_line(entry).ok()?)));
    named.filter(|(_, line)| line.contains("chrom") && line.contains(&marker)).map(|(id, _)| id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_keeps_all_recorded_steps_and_leaves_no_browser() {
    let directory = tempfile::tempdir().unwrap();
    let profiles = directory.path().join("tmp");
    let instance = template("shop_order_many").unwrap().instantiate(10_000);
    let served = instance.serve().await.unwrap();
    let url = served.url.join(instance.start_path()).unwrap();
    let kills: usize = std::env::var("KILLS").map_or(2, |kills| kills.parse().unwrap());
    for kill_after in (0..kills).map(|kill| 1 + 2 * kill % 7) {
        tokio::task::block_in_place(|| {
            let (mut child, reader) = start_run(directory.path(), url.as_str(), instance.goal(), kill_after);
            child.kill().unwrap();
            child.wait().unwrap();
            reader.join().unwrap();
        });
        let episode = latest_episode(directory.path()).await;
        assert!(episode.steps.len() >= kill_after && episode.stop.is_none(), "{} steps, {:?}", episode.steps.len(), episode.stop);
    }
    let output = tokio::task::block_in_place(|| {
        super::command(directory.path(), &["observe", url.as_str(), "--json"]).env("TMPDIR", &profiles).output().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(browsers(&profiles), [] as [u32; 0]);
}
