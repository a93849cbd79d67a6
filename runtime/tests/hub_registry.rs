//! The registry of a model with a hub id, whose generations were registered while its base was the hash of the id's name.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use milepost_runtime::registry::{AdapterChoice, ChosenAdapter, Incumbent, Record, Status, registered_base, sync_engine};
use milepost_runtime::{
    AdapterRegistry, DirectoryRegistry, Engine, Error, GenerateRequest, Generated, Generation, GenerationEngine, Probes, Result,
    ScoreRequest,
};
use serde_json::{Value, json};

/// The hash of the hub id's name.
const NAME: &str = "1111aaaa1111aaaa";
/// The hash of its weights.
const WEIGHTS: &str = "2222bbbb2222bbbb";

/// Returns the generation of the model without an adapter, with this base.
fn model(base: &str) -> Generation {
    let word = |word: &str| word.to_owned();
    Generation { base: word(base), tokenizer: word("t1"), chat_template: word("c1"), prompts: word("p1"), ..Generation::default() }
}

/// A registry as an earlier version left it: `a` and `b` are registered on the hash of the name, `b` serves and `a` served before.
struct OldRegistry {
    directory: tempfile::TempDir,
    registry: DirectoryRegistry,
    a: Record,
    b: Record,
}

impl OldRegistry {
    async fn new(suffix: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DirectoryRegistry::new(directory.path().join("adapters"));
        let base = model(&format!("{NAME}{suffix}"));
        let mut records = Vec::new();
        for name in ["a", "b"] {
            let record = registry.register(&adapter(directory.path(), name, NAME), &base).await.unwrap();
            records.push(registry.promote(&record.id, Incumbent::Any, "better").await.unwrap());
        }
        let (b, a) = (records.pop().unwrap(), records.pop().unwrap());
        Self { directory, registry, a, b }
    }

    /// Chooses the adapter as a start on the model with these weights does, and returns it with the generation that an engine serves with
    /// it.
    async fn start(&self, choice: &AdapterChoice, base: &str, former: &str) -> Option<(ChosenAdapter, Generation)> {
        let recorded = || self.registry.recorded_base(model(base), Some(former));
        let chosen = ChosenAdapter::find::<Error>(&self.registry, choice, recorded).await.unwrap()?;
        let served = served(base, Some(former), &chosen.directory);
        Some((chosen, served))
    }

    /// Returns the contents of all files of the registry.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = |directory: &Path| std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let (directories, mut files): (Vec<_>, Vec<_>) = entries(self.registry.root()).into_iter().partition(|path| path.is_dir());
        files.extend(directories.iter().flat_map(|directory| entries(directory)));
        files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn json(&self, id: &str, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.registry.directory(id).join(file)).unwrap()).unwrap()
    }
}

/// Makes an adapter directory; the registry does not read the weights.
fn adapter(directory: &Path, name: &str, base: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(&path).unwrap();
    let lineage = json!({ "base": base, "recipe": "sft", "seed": 7 });
    for (file, text) in [("adapter_config.json", "{}"), ("adapter_model.safetensors", name), ("lineage.json", &lineage.to_string())] {
        std::fs::write(path.join(file), text).unwrap();
    }
    path
}

/// Returns the generation that an engine serves with an adapter.
fn served(base: &str, former: Option<&str>, adapter: &Path) -> Generation {
    let hash = milepost_runtime::hash::adapter_hash(adapter).unwrap();
    Generation { adapter: Some(hash), registered_base: registered_base(adapter, base, former).unwrap(), ..model(base) }
}

#[tokio::test]
async fn an_old_generation_is_served_under_its_id_and_rewritten_once() {
    let old = OldRegistry::new("").await;
    let (chosen, serving) = old.start(&AdapterChoice::Current, WEIGHTS, NAME).await.unwrap();
    assert_eq!((chosen.record.as_ref(), serving.id()), (Some(&old.b), old.b.id.clone()));
    chosen.check(&serving).unwrap();
    assert_eq!(old.registry.rebase(NAME, &serving).unwrap(), 2);

    for before in [&old.a, &old.b] {
        let after = old.registry.get(&before.id).await.unwrap().unwrap();
        let generation = Generation { base: WEIGHTS.into(), registered_base: Some(NAME.into()), ..before.generation.clone() };
        assert_eq!(after, Record { generation, ..before.clone() }, "only the base changes");
        assert_eq!(after.id, after.generation.id(), "the id is still a hash over what the record holds");
        assert_eq!(old.json(&before.id, "lineage.json"), json!({ "base": WEIGHTS, "recipe": "sft", "seed": 7 }));
    }
    assert_eq!(old.registry.current(&model(WEIGHTS)).await.unwrap().map(|record| record.id), Some(old.b.id.clone()));
    assert_eq!(old.registry.current(&model(NAME)).await.unwrap(), None);

    let files = old.files();
    let (chosen, again) = old.start(&AdapterChoice::Current, WEIGHTS, NAME).await.unwrap();
    chosen.check(&again).unwrap();
    assert_eq!((again, old.registry.rebase(NAME, &model(WEIGHTS)).unwrap()), (serving, 0));
    assert_eq!(old.files(), files, "a second start changes nothing");
}

#[tokio::test]
async fn the_number_type_of_the_weights_is_kept() {
    let old = OldRegistry::new("-q4k").await;
    let (base, former) = (format!("{WEIGHTS}-q4k"), format!("{NAME}-q4k"));
    let serving = served(&base, Some(&former), &old.registry.directory(&old.b.id));
    assert_eq!(serving.id(), old.b.id);
    assert_eq!(old.registry.rebase(NAME, &serving).unwrap(), 2);
    let record = old.json(&old.b.id, "generation.json");
    assert_eq!([&record["base"], &record["registered_base"]], [&json!(base), &json!(former)]);
}

#[tokio::test]
async fn another_model_is_refused_before_and_after_the_rewriting() {
    let old = OldRegistry::new("").await;
    let named = AdapterChoice::Named(old.b.id.clone());
    let refused = async |base: &str, former: &str, says: &str| {
        assert!(old.start(&AdapterChoice::Current, base, former).await.is_none(), "nothing serves on another model");
        let (chosen, serving) = old.start(&named, base, former).await.unwrap();
        let error = chosen.check(&serving).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused("9999cccc9999cccc", "8888dddd8888dddd", "base weights 1111aaaa1111aaaa, now 9999cccc9999cccc").await;
    old.registry.rebase(NAME, &model(WEIGHTS)).unwrap();
    refused("9999cccc9999cccc", "8888dddd8888dddd", "base weights 2222bbbb2222bbbb, now 9999cccc9999cccc").await;
    // The hub id is the same, but its weights are others now.
    refused("9999cccc9999cccc", NAME, "base weights 2222bbbb2222bbbb, now 9999cccc9999cccc").await;
    assert_eq!(old.registry.rebase(NAME, &model("9999cccc9999cccc")).unwrap(), 0);
}

/// The records are written before `current.json`.
#[tokio::test]
async fn a_rewriting_that_was_broken_off_is_completed_by_the_next_start() {
    let old = OldRegistry::new("").await;
    let pointers = old.registry.root().join("current.json");
    let former = std::fs::read(&pointers).unwrap();
    old.registry.rebase(NAME, &model(WEIGHTS)).unwrap();
    let whole = old.files();
    std::fs::write(&pointers, &former).unwrap();
    let record = old.registry.directory(&old.a.id).join("generation.json");
    std::fs::write(&record, serde_json::to_vec_pretty(&old.a).unwrap()).unwrap();

    let (chosen, serving) = old.start(&AdapterChoice::Current, WEIGHTS, NAME).await.unwrap();
    assert_eq!(serving.id(), old.b.id);
    chosen.check(&serving).unwrap();
    assert_eq!(old.registry.rebase(NAME, &serving).unwrap(), 1);
    assert_eq!(old.files(), whole);
}

#[tokio::test]
async fn an_adapter_that_was_registered_before_is_not_registered_again() {
    let old = OldRegistry::new("").await;
    let serving = served(WEIGHTS, Some(NAME), &old.registry.directory(&old.b.id));
    old.registry.rebase(NAME, &serving).unwrap();
    let again = adapter(old.directory.path(), "a", WEIGHTS);
    assert_eq!(old.registry.register(&again, &serving).await.unwrap().id, old.a.id);
    let new = old.registry.register(&adapter(old.directory.path(), "c", WEIGHTS), &serving).await.unwrap();
    assert_eq!(new.generation.registered_base, None, "a new generation is registered on the weights alone");
    assert_eq!(new.id, new.generation.id());
}

/// An engine that only swaps generations; it is never asked to generate or to score.
struct Swapping(Mutex<Generation>);

#[async_trait]
impl Engine for Swapping {
    async fn generate(&self, _: GenerateRequest) -> Result<Generated> {
        unreachable!("nothing is generated")
    }

    fn generation(&self) -> Generation {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl GenerationEngine for Swapping {
    async fn score(&self, _: ScoreRequest) -> Result<Vec<f32>> {
        unreachable!("nothing is scored")
    }

    async fn swap(&self, adapter: &Path, _: &Probes) -> Result<Generation> {
        *self.0.lock().unwrap() = served(WEIGHTS, Some(NAME), adapter);
        Ok(self.generation())
    }

    async fn serve_base(&self) -> Result<Generation> {
        *self.0.lock().unwrap() = model(WEIGHTS);
        Ok(self.generation())
    }
}

#[tokio::test]
async fn rollbacks_go_through_the_rewritten_generations() {
    let old = OldRegistry::new("").await;
    let engine = Swapping(Mutex::new(served(WEIGHTS, Some(NAME), &old.registry.directory(&old.b.id))));
    old.registry.rebase(NAME, &engine.generation()).unwrap();
    assert_eq!(sync_engine(&old.registry, &engine).await.unwrap(), None, "what should serve serves");
    for expected in [Some(old.a.id.clone()), None] {
        let back = old.registry.rollback(&engine.generation(), "live success fell").await.unwrap().map(|record| record.id);
        let now = sync_engine(&old.registry, &engine).await.unwrap().unwrap();
        assert_eq!(back, expected);
        assert_eq!(now.id(), expected.unwrap_or_else(|| model(WEIGHTS).id()));
    }
    assert_eq!(old.registry.get(&old.b.id).await.unwrap().unwrap().status, Status::RolledBack);
}

/// A rollback from the command line loads no model, so that it may find the records of the earlier version.
#[tokio::test]
async fn a_rollback_before_the_first_start_goes_back_in_the_old_records() {
    let old = OldRegistry::new("").await;
    let base = old.registry.recorded_base(model(WEIGHTS), Some(NAME)).unwrap();
    assert_eq!(old.registry.rollback(&base, "it fails its proof").await.unwrap().map(|record| record.id), Some(old.a.id.clone()));
    let (chosen, serving) = old.start(&AdapterChoice::Current, WEIGHTS, NAME).await.unwrap();
    chosen.check(&serving).unwrap();
    assert_eq!(serving.id(), old.a.id);
}
