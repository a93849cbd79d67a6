//! The registry of generations: which generation serves, which one a rollback restores, and that a killed process leaves no partial change.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use milepost_runtime::registry::{Figure, Incumbent, Occasion, Record, Rollback, Status, read_probes};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Generation};
use serde_json::{Value, json};

fn base() -> Generation {
    let word = |word: &str| word.to_owned();
    Generation { base: word("b1"), tokenizer: word("t1"), chat_template: word("c1"), prompts: word("p1"), ..Generation::default() }
}

/// Makes an adapter directory; the registry does not read the weights.
fn adapter(directory: &Path, name: &str, lineage: &Value) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(&path).unwrap();
    for (file, text) in [
        ("adapter_config.json", "{\"r\": 4}".to_owned()),
        ("adapter_model.safetensors", format!("weights of {name}")),
        ("lineage.json", lineage.to_string()),
        ("probes.json", json!({ "requests": [], "expected": [[-1.5]], "parent": [[-2.0]] }).to_string()),
    ] {
        std::fs::write(path.join(file), text).unwrap();
    }
    path
}

/// Makes a registry with generations of these names, oldest first.
async fn registry(directory: &Path, names: &[&str]) -> (DirectoryRegistry, Vec<Record>) {
    let registry = DirectoryRegistry::new(directory.join("adapters"));
    let mut records = Vec::new();
    for name in names {
        let lineage = json!({ "base": "b1", "recipe": "sft", "parent": base().id() });
        records.push(registry.register(&adapter(directory, name, &lineage), &base()).await.unwrap());
    }
    (registry, records)
}

async fn serving(registry: &DirectoryRegistry) -> Option<String> {
    registry.current(&base()).await.unwrap().map(|record| record.id)
}

#[tokio::test]
async fn a_generation_is_taken_in_whole_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a", "b"]).await;
    let (a, b) = (&records[0], &records[1]);
    assert_eq!((a.status, a.recipe.as_str(), a.generation.parent.as_deref()), (Status::Candidate, "sft", Some(&*base().id())));
    assert_eq!(a.id, Generation { adapter: a.generation.adapter.clone(), ..base() }.id(), "the id is the one that the engine gives");
    assert_ne!(a.id, b.id);
    let files = registry.directory(&a.id);
    assert_eq!(std::fs::read_to_string(files.join("adapter_model.safetensors")).unwrap(), "weights of a");
    assert_eq!(read_probes(&files).unwrap().unwrap().parent, [[-2.0]]);
    assert_eq!(registry.register(&directory.path().join("a"), &base()).await.unwrap(), *a, "the same adapter is the same generation");
    let listed: Vec<String> = registry.list().await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(listed, [b.id.clone(), a.id.clone()], "newest first");
    assert_eq!(registry.get(&a.id[..8]).await.unwrap().as_ref(), Some(a));
    assert_eq!((registry.get("").await.unwrap(), registry.get("zz").await.unwrap()), (None, None));
}

#[tokio::test]
async fn an_adapter_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let registry = DirectoryRegistry::new(directory.path().join("adapters"));
    for (claim, says) in [
        (json!({ "base": "b2" }), "base weights b2"),
        (json!({ "base": "b1", "tokenizer": "t2" }), "tokenizer t2"),
        (json!({ "template": "c2" }), "chat template c2"),
        (json!({ "prompts": "p2" }), "prompt templates p2"),
    ] {
        let error = registry.register(&adapter(directory.path(), "a", &claim), &base()).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("train it again"), "{error}");
    }
    let error = registry.register(&directory.path().join("nowhere"), &base()).await.unwrap_err().to_string();
    assert!(error.contains("nowhere/adapter_config.json cannot be read"), "{error}");
    let quantised = Generation { base: "b1-q4k".into(), ..base() };
    registry.register(&adapter(directory.path(), "a", &json!({ "base": "b1" })), &quantised).await.unwrap();
}

#[tokio::test]
async fn a_rollback_goes_to_what_served_before_and_is_still_good() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a", "b", "c"]).await;
    let [a, b, c] = [0, 1, 2].map(|index| records[index].id.as_str());
    assert_eq!(serving(&registry).await, None);
    registry.promote(a, Incumbent::Base, "better").await.unwrap();
    registry.promote(b, Incumbent::Generation(a), "better").await.unwrap();
    registry.promote(c, Incumbent::Any, "by hand").await.unwrap();
    assert_eq!(serving(&registry).await.as_deref(), Some(c));
    assert_eq!(registry.serving().unwrap(), [c]);
    let other = Generation { base: "b9".into(), ..base() };
    assert_eq!(registry.current(&other).await.unwrap(), None, "another base has its own");
    assert!(registry.rollback(&other, "x").await.is_err());

    registry.set_status(b, Status::Quarantined, "measured again: worse").await.unwrap();
    let back = registry.rollback(&base(), "live success fell").await.unwrap();
    assert_eq!(back.map(|record| record.id).as_deref(), Some(a), "b is no longer good");
    assert_eq!(registry.rollback(&base(), "and again").await.unwrap(), None);
    assert_eq!(serving(&registry).await, None);
    let error = registry.rollback(&base(), "and again").await.unwrap_err().to_string();
    assert!(error.contains("nothing to go back from"), "{error}");

    let history: Vec<(Status, String)> =
        registry.get(c).await.unwrap().unwrap().history.into_iter().map(|change| (change.status, change.reason)).collect();
    let expected = [(Status::Candidate, "registered"), (Status::Promoted, "by hand"), (Status::RolledBack, "live success fell")];
    assert_eq!(history, expected.map(|(status, reason)| (status, reason.to_owned())));
}

#[tokio::test]
async fn a_rollback_of_what_does_not_serve_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a", "b"]).await;
    let [a, b] = [0, 1].map(|index| records[index].id.clone());
    assert_eq!(registry.rollback_of(&base(), &a, "x").await.unwrap(), Rollback::NotServing { serving: None });
    registry.promote(&a, Incumbent::Base, "better").await.unwrap();
    registry.promote(&b, Incumbent::Generation(&a), "better").await.unwrap();
    let pointers = || std::fs::read(registry.root().join("current.json")).unwrap();
    let before = pointers();
    let served = Rollback::NotServing { serving: Some(b.clone()) };
    assert_eq!(registry.rollback_of(&base(), &a, "live success fell").await.unwrap(), served);
    assert_eq!((pointers(), registry.get(&a).await.unwrap().unwrap().status), (before, Status::Promoted));

    let previous = || async { registry.previous(&base()).await.unwrap().map(|record| record.id) };
    assert_eq!(previous().await.as_ref(), Some(&a));
    let done = registry.rollback_of(&base(), &b, "live success fell").await.unwrap();
    assert_eq!((done, serving(&registry).await, previous().await), (Rollback::Done { serving: Some(a.clone()) }, Some(a.clone()), None));
    assert_eq!(registry.rollback_of(&base(), &a, "and again").await.unwrap(), Rollback::Done { serving: None });
    assert_eq!(previous().await, None, "nothing serves, so that nothing served before");
}

#[tokio::test]
async fn a_promotion_knows_whether_it_was_a_persons_choice() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a", "b"]).await;
    let by_hand = |record: &Record| record.promotion().and_then(|promotion| promotion.by_hand);
    assert_eq!(by_hand(&records[0]), None);
    let compared = registry.promote(&records[0].id, Incumbent::Base, "better").await.unwrap();
    let stood_by = registry.promote(&records[0].id, Incumbent::Any, "a person stands by it").await.unwrap();
    let chosen = registry.promote(&records[1].id, Incumbent::Any, "by hand").await.unwrap();
    assert_eq!([&compared, &stood_by, &chosen].map(by_hand), [Some(false), Some(true), Some(true)]);
    let kept = registry.get(&records[0].id).await.unwrap().unwrap();
    assert_eq!((by_hand(&kept), kept.history.len()), (Some(true), 2));
}

#[tokio::test]
async fn nobody_promotes_what_is_refused_or_over_what_he_has_not_seen() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a", "b"]).await;
    let [a, b] = [0, 1].map(|index| records[index].id.as_str());
    let refused = |result: milepost_runtime::Result<Record>, says: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    registry.set_status(b, Status::Quarantined, "NaN on the probes").await.unwrap();
    refused(registry.promote(b, Incumbent::Any, "x").await, "NaN on the probes");
    refused(registry.promote(a, Incumbent::Generation(b), "x").await, "the base came into service");
    registry.promote(a, Incumbent::Base, "better").await.unwrap();
    refused(registry.promote(a, Incumbent::Base, "x").await, "came into service");
    refused(registry.set_status(a, Status::Quarantined, "x").await, "rollback");
    refused(registry.set_status(b, Status::Promoted, "x").await, "being promoted");
    refused(registry.promote("zz", Incumbent::Any, "x").await, "there is no generation");
    let again = registry.promote(a, Incumbent::Any, "twice").await.unwrap();
    assert_eq!(again.history.len(), 2, "what serves is not promoted again");
}

#[tokio::test]
async fn figures_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a"]).await;
    let figure = |occasion, solved| Figure {
        incumbent: Some([30, 50]),
        p: Some(0.004),
        decision: Some(Status::Promoted),
        ..Figure::new(occasion, [solved, 50], "13 won, 2 lost")
    };
    for (occasion, solved) in [(Occasion::Gate, 41), (Occasion::Remeasured, 38), (Occasion::Remeasured, 39)] {
        registry.measured(&records[0].id, figure(occasion, solved)).await.unwrap();
    }
    let record = registry.get(&records[0].id).await.unwrap().unwrap();
    let latest = |occasion| record.figure(occasion).map(|figure| figure.candidate);
    assert_eq!((latest(Occasion::Gate), latest(Occasion::Remeasured), latest(Occasion::Live)), (Some([41, 50]), Some([39, 50]), None));
}

#[tokio::test]
async fn a_second_updater_is_told_who_the_first_is() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, records) = registry(directory.path(), &["a"]).await;
    let lock = registry.lock_updater().unwrap();
    let error = registry.lock_updater().unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())) && error.contains("two updaters"), "{error}");
    registry.promote(&records[0].id, Incumbent::Any, "by hand").await.unwrap();
    registry.rollback(&base(), "a person may go back at any time").await.unwrap();
    drop(lock);
    registry.lock_updater().unwrap();
}

/// Promotes and rolls back until it is killed.
async fn churn(directory: &Path) -> ! {
    let (registry, records) = registry(directory, &["a", "b"]).await;
    let _lock = registry.lock_updater().unwrap();
    for round in 0_u64.. {
        for record in &records {
            registry.promote(&record.id, Incumbent::Any, &format!("round {round}")).await.unwrap();
        }
        for _ in &records {
            registry.rollback(&base(), &format!("round {round}")).await.unwrap();
        }
        let extra = adapter(directory, &format!("extra {round}"), &json!({}));
        registry.register(&extra, &base()).await.unwrap();
        std::fs::write(directory.join("begun"), "").unwrap();
    }
    unreachable!()
}

/// The test runs itself in a child process, which an environment variable marks, kills that process, and checks the registry that it left.
#[tokio::test]
async fn a_killed_process_leaves_a_registry_that_is_whole() {
    if let Ok(directory) = std::env::var("MILEPOST_TEST_CHURN") {
        churn(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    for kill in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_killed_process_leaves_a_registry_that_is_whole", "--exact", "--nocapture"])
            .env("MILEPOST_TEST_CHURN", directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = directory.path().join("begun");
        while !begun.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(1700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(begun).unwrap();

        let registry = DirectoryRegistry::new(directory.path().join("adapters"));
        let mut promoted: Vec<String> =
            registry.list().await.unwrap().into_iter().filter(|record| record.status == Status::Promoted).map(|record| record.id).collect();
        let pointers: Value = serde_json::from_slice(&std::fs::read(registry.root().join("current.json")).unwrap()).unwrap();
        let pointer = &pointers["b1"];
        let ids = [&[pointer["serving"].clone()], pointer["previous"].as_array().unwrap().as_slice()].concat();
        let mut expected: Vec<String> = ids.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        promoted.sort();
        expected.sort();
        assert_eq!(promoted, expected, "kill {kill}: what was promoted is what serves and what served before");
        registry.lock_updater().unwrap();
        while registry.current(&base()).await.unwrap().is_some() {
            registry.rollback(&base(), "clean").await.unwrap();
        }
        registry.register(&directory.path().join("a"), &base()).await.unwrap();
        let left: Vec<_> = std::fs::read_dir(registry.root()).unwrap().flatten().filter(|entry| entry.path().is_dir()).collect();
        assert!(left.iter().all(|entry| entry.path().join("generation.json").is_file()), "a change clears away what was left unfinished");
    }
}
