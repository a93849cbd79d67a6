//! Tests that generations are promoted and rolled back by the command line and proved at each start, and that broken ones are refused.

use std::path::{Path, PathBuf};
use std::process::Output;

use milepost::config::Config;
use milepost::{model, wiring};
use milepost_learners::adapter::{Adapter, Lineage, LoraConfig, LoraInit};
use milepost_learners::optim::AdamWConfig;
use milepost_learners::{Model, Precision, Sequence, Trainer};
use milepost_runtime::registry::{Incumbent, PROBES, Record, sync_engine};
use milepost_runtime::{AdapterRegistry, Call, GenerateRequest, Generation, Message, Probes, Role, ScoreRequest};
use serde_json::Value;

use super::command_line::milepost;

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed");
const MODEL: [(&str, &str); 1] = [("MILEPOST_LOCAL__MODEL", SEED)];

/// Returns the trainer's log-probabilities of the request's completion.
fn logprobs(model: Model, request: &ScoreRequest) -> Vec<f32> {
    let mut trainer = Trainer::new(model, AdamWConfig::default());
    trainer.set_precision(Precision::F32);
    let tokens = [&request.prompt_ids[..], &request.completion_ids].concat();
    let sequence = Sequence { weights: vec![1.0; tokens.len()], tokens, ..Sequence::default() };
    trainer.logprobs(&[sequence]).unwrap()[0][request.prompt_ids.len()..].to_vec()
}

/// Writes a random adapter of this rank for the seed model, with its lineage and its probes; returns its directory.
pub fn trained(directory: &Path, base: &Generation, rank: usize, seed: u64) -> PathBuf {
    scaled(directory, base, LoraConfig { rank, alpha: 8.0, ..Default::default() }, seed)
}

/// Writes a random adapter as [`trained`] does, with this configuration. The larger `alpha`, the further its policy is from the seed model.
pub fn scaled(directory: &Path, base: &Generation, lora: LoraConfig, seed: u64) -> PathBuf {
    let directory = directory.join(format!("trained-{seed}"));
    let mut model = Model::load(Path::new(SEED)).unwrap();
    let adapter = Adapter::fresh(lora, &model.config, seed, LoraInit::Random).unwrap();
    let lineage = Lineage { base: base.base.clone(), parent: Some(base.id()), recipe: "random".into(), seed, ..Lineage::default() };
    adapter.save(&directory, SEED, &lineage).unwrap();
    let request = ScoreRequest { prompt_ids: (5..60).collect(), completion_ids: (60..80).collect(), grammar: None, temperature: 1.0 };
    let parent = logprobs(model.clone(), &request);
    model.adapter = Some(adapter);
    let probes = Probes { expected: vec![logprobs(model, &request)], parent: vec![parent], requests: vec![request] };
    std::fs::write(directory.join(PROBES), serde_json::to_vec(&probes).unwrap()).unwrap();
    std::fs::write(directory.join("metrics.jsonl"), "{}\n").unwrap();
    directory
}

/// Returns a configuration with the seed model and with its data in this directory.
pub fn settings(directory: &Path) -> Config {
    let mut config = Config::default();
    config.local.model = SEED.into();
    config.episodes.directory = directory.join("data");
    config
}

/// Registers two generations of the seed model; returns the base and both records.
async fn registered(directory: &Path) -> (Generation, [Record; 2]) {
    let config = settings(directory);
    let base = model::load(&config).await.unwrap().engine.generation();
    let registry = wiring::registry(&config);
    let first = registry.register(&trained(directory, &base, 4, 1), &base).await.unwrap();
    let second = registry.register(&trained(directory, &base, 8, 2), &base).await.unwrap();
    (base, [first, second])
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts the model with this adapter and plays one task.
fn play(directory: &Path, adapter: &str) -> Output {
    let arguments = ["suite", "run", "--level", "easy", "--environment", "plain", "--episodes", "1", "--json"];
    milepost(directory, &arguments, &[MODEL[0], ("MILEPOST_ADAPTER", adapter)])
}

fn check_serves(directory: &Path, adapter: &str, id: &str) {
    assert_eq!(json(&play(directory, adapter))["generation"], id, "adapter: {adapter}");
}

fn check_refused(directory: &Path, adapter: &str, code: i32, says: &[&str]) {
    let output = play(directory, adapter);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(says.iter().all(|part| stderr.contains(part)), "{says:?}: {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_promoted_serves_and_a_rollback_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (base, [first, second]) = registered(directory).await;
    let run = |arguments: &[&str]| json(&milepost(directory, &[&["adapters"], arguments, &["--json"]].concat(), &MODEL));
    check_serves(directory, "current", &base.id());
    assert_eq!(run(&["promote", &first.id[..10], "--reason", "looks good"])["status"], "promoted");
    check_serves(directory, "current", &first.id);
    let third = trained(directory, &base, 2, 3);
    let third = run(&["promote", third.to_str().unwrap()]);
    check_serves(directory, "current", third["id"].as_str().unwrap());
    run(&["rollback"]);
    run(&["promote", &second.id]);
    check_serves(directory, "current", &second.id);
    check_serves(directory, "none", &base.id());
    check_serves(directory, &first.id, &first.id);
    check_serves(directory, directory.join("trained-1").to_str().unwrap(), &first.id);
    check_refused(directory, "nothing-of-this-name", 2, &["`adapter`", "nothing-of-this-name", "adapters list"]);

    let listed = run(&["list"]);
    let rows: Vec<(&str, bool)> =
        listed.as_array().unwrap().iter().map(|row| (row["id"].as_str().unwrap(), row["serving"].as_bool().unwrap())).collect();
    assert_eq!(rows[1..], [(second.id.as_str(), true), (first.id.as_str(), false)]);
    assert_eq!(listed[0]["status"], "rolled_back");
    let shown = run(&["show", &first.id]);
    assert_eq!((&shown["parent"], &shown["lineage"]["seed"], &shown["probe_tokens"]), (&base.id().into(), &1.into(), &20.into()));
    assert_eq!(shown["history"][1]["reason"], "looks good");
    assert!(shown["metrics"].as_str().unwrap().ends_with("metrics.jsonl") && shown["curve"].is_null());
    let compared = run(&["diff", &first.id, &second.id]);
    let settings: Vec<&str> = compared["settings"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(settings, ["lineage.seed", "adapter.r"]);
    assert!(compared["modules"][0]["difference"].as_f64().unwrap() > 0.0);

    assert_eq!(run(&["rollback", "--reason", "live success fell"])["serving"]["id"], first.id.as_str());
    check_serves(directory, "current", &first.id);
    assert!(run(&["rollback"])["serving"].is_null());
    check_serves(directory, "current", &base.id());
    let output = milepost(directory, &["adapters", "rollback"], &MODEL);
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("nothing to go back from"));
    for arguments in [&["adapters", "list"][..], &["adapters", "show", &first.id], &["adapters", "diff", &first.id, &second.id]] {
        let output = milepost(directory, arguments, &MODEL);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

/// A running engine follows the registry, and after a rollback answers with the same bits as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_engine_follows_promotions_and_rollbacks() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (base, [first, second]) = registered(directory).await;
    let config = settings(directory);
    let registry = wiring::registry(&config);
    let engine = model::load(&config).await.unwrap().engine;
    let answers = || async {
        let mut answers = Vec::new();
        for seed in 0..3 {
            let messages = vec![Message::user("react\ngoal Put \"Red Chair\" into the cart.")];
            let request = GenerateRequest { role: Role::Executor, messages, grammar: None, temperature: 1.0, seed, max_tokens: 24 };
            let Call { completion_ids, logprobs, generation, .. } = engine.generate(request).await.unwrap().call;
            answers.push((completion_ids, logprobs.into_iter().map(f32::to_bits).collect::<Vec<u32>>(), generation));
        }
        answers
    };
    let of_base = answers().await;
    assert_eq!(sync_engine(&registry, engine.as_ref()).await.unwrap(), None);
    registry.promote(&first.id, Incumbent::Base, "better").await.unwrap();
    assert_eq!(sync_engine(&registry, engine.as_ref()).await.unwrap().unwrap().id(), first.id);
    let of_first = answers().await;
    registry.promote(&second.id, Incumbent::Generation(&first.id), "better").await.unwrap();
    sync_engine(&registry, engine.as_ref()).await.unwrap();
    assert_ne!(answers().await, of_first);
    registry.rollback(&base, "live success fell").await.unwrap();
    sync_engine(&registry, engine.as_ref()).await.unwrap();
    assert_eq!(answers().await, of_first);

    registry.promote(&second.id, Incumbent::Any, "again").await.unwrap();
    std::fs::write(registry.directory(&second.id).join("adapter_config.json"), "{}").unwrap();
    let error = sync_engine(&registry, engine.as_ref()).await.unwrap_err().to_string();
    assert!(error.contains("is not what was registered") && error.contains(&second.id), "{error}");
    assert_eq!(answers().await, of_first, "what served goes on serving");

    registry.rollback(&base, "broken").await.unwrap();
    registry.rollback(&base, "to the base").await.unwrap();
    assert_eq!(sync_engine(&registry, engine.as_ref()).await.unwrap().unwrap().id(), base.id());
    assert_eq!(answers().await, of_base);
}

/// There is no silent fallback: an adapter that fails its proof stops the start with an error that names the generation and the ways out.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_fails_its_proof_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (base, [first, second]) = registered(directory).await;
    let place = |record: &Record, file: &str| directory.join("data/adapters").join(&record.id).join(file);
    assert!(milepost(directory, &["adapters", "promote", &first.id], &MODEL).status.success());
    let way_out = ["cannot serve", &first.id, "adapters rollback", "adapter: none"];
    let sound = ["adapter_model.safetensors", PROBES].map(|file| (file, std::fs::read(place(&first, file)).unwrap()));

    // The weights are replaced by those of another adapter.
    std::fs::copy(place(&second, "adapter_model.safetensors"), place(&first, "adapter_model.safetensors")).unwrap();
    check_refused(directory, "current", 5, &way_out);
    // The weights have the right shape, but all of them are NaN.
    let (weights, header) = (&sound[0].1, 8 + u64::from_le_bytes(sound[0].1[..8].try_into().unwrap()) as usize);
    let broken: Vec<u8> = [&weights[..header], &[0xff].repeat(weights.len() - header)].concat();
    std::fs::write(place(&first, "adapter_model.safetensors"), broken).unwrap();
    check_refused(directory, "current", 5, &[&way_out[..], &["NaN"]].concat());
    // All weights are zero, so that the model with the adapter is the base model.
    let zeroed: Vec<u8> = [&weights[..header], &[0].repeat(weights.len() - header)].concat();
    std::fs::write(place(&first, "adapter_model.safetensors"), zeroed).unwrap();
    check_refused(directory, "current", 5, &way_out);
    // The weights are sound again, but the probes are missing, and then those of another adapter.
    std::fs::write(place(&first, "adapter_model.safetensors"), weights).unwrap();
    std::fs::remove_file(place(&first, PROBES)).unwrap();
    check_refused(directory, "current", 5, &[&way_out[..], &["no probes"]].concat());
    std::fs::copy(place(&second, PROBES), place(&first, PROBES)).unwrap();
    check_refused(directory, "current", 5, &[&way_out[..], &["not the trained one"]].concat());
    std::fs::write(place(&first, PROBES), &sound[1].1).unwrap();
    check_serves(directory, "current", &first.id);

    // Quantisation erases the adapter's effect, or at least changes the base that it was trained on.
    let quantised = [MODEL[0], ("MILEPOST_LOCAL__ISQ", "q4k")];
    let output = milepost(directory, &["suite", "run", "--environment", "plain", "--episodes", "1"], &quantised);
    assert!(output.status.code() == Some(5) && String::from_utf8_lossy(&output.stderr).contains(&first.id));
    // A person cannot promote a generation that fails its proof, either.
    std::fs::copy(place(&first, PROBES), place(&second, PROBES)).unwrap();
    let output = milepost(directory, &["adapters", "promote", &second.id], &MODEL);
    assert!(output.status.code() == Some(5) && String::from_utf8_lossy(&output.stderr).contains("was not promoted"));
    // The configured prompts are not those that the generation was trained with.
    let instruct = [MODEL[0], ("MILEPOST_POLICY__PROMPT_PROFILE", "instruct")];
    let output = milepost(directory, &["suite", "run", "--environment", "plain", "--episodes", "1"], &instruct);
    assert!(output.status.code() == Some(5) && String::from_utf8_lossy(&output.stderr).contains("other prompts"));

    assert!(milepost(directory, &["adapters", "rollback"], &MODEL).status.success());
    check_serves(directory, "current", &base.id());
}
