//! Tests of hub ids, on a directory that is laid out as the hub's cache; nothing is downloaded.

use std::path::Path;
use std::process::Command;

use milepost_engines::{LocalEngine, LocalModelConfig, base_hash, hub_name_hash};
use milepost_runtime::registry::{AdapterChoice, ChosenAdapter, Incumbent};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Engine, Error, Generation, GenerationEngine, Probes, ScoreRequest};

use crate::model::{SMALL, TestModel, free};

const ID: &str = "acme/tiny";
/// The environment variable that is set in the child process in which a test runs with its own cache.
const INSIDE: &str = "MILEPOST_TEST_HUB";

/// Runs the test of this name again in a child process with a hub cache of its own, and with a hub address that does not answer.
fn run_with_cache(test: &str) {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .env("HF_HUB_CACHE", cache.path())
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Copies a model into the cache of this process as the newest commit of [`ID`].
fn put_into_cache(model: &Path) {
    let repository = Path::new(&std::env::var("HF_HUB_CACHE").unwrap()).join("models--acme--tiny");
    let snapshot = repository.join("snapshots/c0ffee");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "c0ffee").unwrap();
    for file in std::fs::read_dir(model).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&file, snapshot.join(file.file_name().unwrap())).unwrap();
    }
}

fn config() -> LocalModelConfig {
    LocalModelConfig { model: ID.into(), ..LocalModelConfig::default() }
}

fn probe() -> ScoreRequest {
    ScoreRequest { prompt_ids: (5..60).collect(), completion_ids: (60..90).collect(), grammar: None, temperature: 1.0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_id_serves_the_files_in_the_cache_and_is_known_by_their_hash() {
    if std::env::var_os(INSIDE).is_none() {
        return run_with_cache("hub::a_hub_id_serves_the_files_in_the_cache_and_is_known_by_their_hash");
    }
    let error = base_hash(&config()).unwrap_err().to_string();
    assert!([ID, "it was never downloaded", "127.0.0.1:9", "hf download acme/tiny"].iter().all(|word| error.contains(word)), "{error}");

    let model = TestModel::new(SMALL, 3);
    put_into_cache(model.path());
    let base = base_hash(&config()).unwrap();
    assert_eq!(base, base_hash(&model.config_for_engine()).unwrap());
    assert_ne!(Some(base.clone()), hub_name_hash(&config()));
    assert_eq!(hub_name_hash(&model.config_for_engine()), None);
    let (engine, directory) = (LocalEngine::load(&config()).await.unwrap(), model.engine().await);
    assert_eq!(engine.generation().base, base);
    let answers = [engine.generate(free(1, 12)).await.unwrap(), directory.generate(free(1, 12)).await.unwrap()];
    assert_eq!(answers[0].call.logprobs, answers[1].call.logprobs);
}

/// A registry as an earlier version wrote it, with a generation that was registered on the hash of the hub id's name.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_of_an_earlier_version_is_served_under_its_id() {
    if std::env::var_os(INSIDE).is_none() {
        return run_with_cache("hub::a_generation_of_an_earlier_version_is_served_under_its_id");
    }
    let model = TestModel::new(SMALL, 3);
    put_into_cache(model.path());
    let (adapter, merged) = model.adapter("old", 1000, 0.3);
    let base = LocalEngine::load(&config()).await.unwrap();
    let former = hub_name_hash(&config()).unwrap();
    let probes = Probes {
        requests: vec![probe()],
        expected: vec![merged.engine().await.score(probe()).await.unwrap()],
        parent: vec![base.score(probe()).await.unwrap()],
    };
    let registry = DirectoryRegistry::new(model.path().join("adapters"));
    let old = registry.register(&adapter, &Generation { base: former.clone(), ..base.generation() }).await.unwrap();
    registry.promote(&old.id, Incumbent::Base, "better").await.unwrap();

    let start = async || {
        let recorded = || registry.recorded_base(Generation { base: base_hash(&config())?, ..Generation::default() }, Some(&former));
        let chosen = ChosenAdapter::find::<Error>(&registry, &AdapterChoice::Current, recorded).await.unwrap().unwrap();
        let engine = LocalEngine::load(&LocalModelConfig { adapter: Some(chosen.directory.clone()), ..config() }).await.unwrap();
        engine.prove(&probes).await.unwrap();
        chosen.check(&engine.generation()).unwrap();
        assert_eq!(engine.generate(free(1, 4)).await.unwrap().call.generation, old.id);
        registry.rebase(&former, &engine.generation()).unwrap()
    };
    assert_eq!([start().await, start().await], [1, 0], "the record is rewritten once");
    let swapped = base.swap(&registry.directory(&old.id), &probes).await.unwrap();
    assert_eq!((swapped.id(), swapped.base), (old.id.clone(), base_hash(&config()).unwrap()));
    assert_eq!(base.serve_base().await.unwrap().registered_base, None);

    // The same adapter from outside the registry gets an id that is computed from the weights.
    assert_ne!(base.swap(&adapter, &probes).await.unwrap().id(), old.id);
}
