//! Tests that an adapter computes the same in the trainer and in the engine: it is merged by the command line and served by mistralrs.

use std::path::Path;

use milepost_engines::{LocalEngine, LocalModelConfig};
use milepost_learners::adapter::{Adapter, Lineage, LoraConfig, LoraInit};
use milepost_learners::optim::AdamWConfig;
use milepost_learners::{Model, Precision, Sequence, Trainer, probes};
use milepost_runtime::{Engine, GenerateRequest, GenerationEngine, Grammar, Message, Role, ScoreRequest};
use milepost_text::{GrammarCompiler, TextModel, rebuild_masks};

use super::command_line::milepost;

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed");

/// Returns the seed model with a random adapter, which is also saved in this directory.
fn adapted(directory: &Path) -> Model {
    let mut model = Model::load(Path::new(SEED)).unwrap();
    let adapter = Adapter::fresh(LoraConfig { rank: 8, alpha: 8.0, ..Default::default() }, &model.config, 7, LoraInit::Random).unwrap();
    adapter.save(directory, SEED, &Lineage { recipe: "random".into(), ..Default::default() }).unwrap();
    model.adapter = Some(adapter);
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_serves_what_was_trained() {
    let directory = tempfile::tempdir().unwrap();
    let (adapter, merged) = (directory.path().join("adapter"), directory.path().join("merged"));
    let model = adapted(&adapter);
    let arguments = ["adapters", "merge", adapter.to_str().unwrap(), "--base", SEED, "--out", merged.to_str().unwrap()];
    assert!(milepost(directory.path(), &arguments, &[]).status.success());

    let text = TextModel::load(&merged).unwrap();
    let prompt_ids = text.encode_prompt(&[Message::user("plan\ngoal Put \"Red Chair\" into the cart.")]).unwrap();
    let completion_ids = text.encode_completion("click \"Red Chair\" => text visible \"About Red Chair\"\nend").unwrap();
    let config = LocalModelConfig { model: merged.display().to_string(), ..Default::default() };
    let engine = LocalEngine::load(&config).await.unwrap();
    let request = ScoreRequest { prompt_ids: prompt_ids.clone(), completion_ids: completion_ids.clone(), grammar: None, temperature: 1.0 };
    let served = engine.score(request).await.unwrap();

    let mut trainer = Trainer::new(model, AdamWConfig::default());
    trainer.set_precision(Precision::F32);
    let mut weights = vec![0.0; prompt_ids.len()];
    weights.resize(prompt_ids.len() + completion_ids.len(), 1.0);
    let trained =
        trainer.logprobs(&[Sequence { tokens: [&prompt_ids[..], &completion_ids].concat(), weights, ..Default::default() }]).unwrap();
    let worst = served.iter().zip(&trained[0][prompt_ids.len()..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(served.len() == completion_ids.len() && worst <= 1e-4, "{worst}");
    let plain = Trainer::new(Model::load(Path::new(SEED)).unwrap(), AdamWConfig::default())
        .logprobs(&[Sequence {
            tokens: [&prompt_ids[..], &completion_ids].concat(),
            weights: vec![1.0; prompt_ids.len() + completion_ids.len()],
            ..Default::default()
        }])
        .unwrap();
    assert!(served.iter().zip(&plain[0][prompt_ids.len()..]).any(|(a, b)| (a - b).abs() > 0.1), "the adapter changes something");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trainer_rebuilds_the_policy_that_acted() {
    let config = LocalModelConfig { model: SEED.into(), ..Default::default() };
    let engine = LocalEngine::load(&config).await.unwrap();
    let grammar = Grammar(
        "start: \"click \" name \" \" /[1-9][0-9]?/\nname: \"\\\"Red Chair\\\"\" | \"\\\"Blue Lamp\\\"\" | \"\\\"Cart\\\"\"".into(),
    );
    let request = GenerateRequest {
        role: Role::Executor,
        messages: vec![Message::user("react\ngoal Put \"Red Chair\" into the cart.")],
        grammar: Some(grammar.clone()),
        temperature: 0.7,
        seed: 11,
        max_tokens: 32,
    };
    let call = engine.generate(request).await.unwrap().call;

    let text = TextModel::load(Path::new(SEED)).unwrap();
    let masks = rebuild_masks(&GrammarCompiler::new(&text).unwrap(), &grammar, &call.completion_ids).unwrap();
    let prompt = call.prompt_ids.len();
    let mut sequence = Sequence {
        tokens: [&call.prompt_ids[..], &call.completion_ids].concat(),
        weights: vec![0.0; prompt],
        masks: vec![None; prompt],
        temperature: call.temperature,
        ..Default::default()
    };
    sequence.weights.resize(sequence.tokens.len(), 1.0);
    sequence.masks.extend(masks.iter().map(|mask| Some(mask.words().into())));
    let mut trainer = Trainer::new(Model::load(Path::new(SEED)).unwrap(), AdamWConfig::default());
    trainer.set_precision(Precision::F32);
    let trained = trainer.logprobs(&[sequence]).unwrap();
    let worst = call.logprobs.iter().zip(&trained[0][prompt..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(call.logprobs.len() == call.completion_ids.len() && worst <= 1e-4, "{worst}: {:?} {:?}", call.logprobs, &trained[0][prompt..]);
}

#[test]
fn an_adapter_is_inspected_and_exported() {
    let directory = tempfile::tempdir().unwrap();
    adapted(&directory.path().join("adapter"));
    let run = |arguments: &[&str]| {
        let output = milepost(directory.path(), arguments, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let report: serde_json::Value = serde_json::from_slice(&run(&["adapters", "inspect", "adapter", "--base", SEED, "--json"])).unwrap();
    assert_eq!((&report["rank"], &report["tensors"], &report["lineage"]["recipe"]), (&8.into(), &56.into(), &"random".into()));
    run(&["adapters", "export", "adapter", "--base", SEED, "--format", "gguf", "--out", "adapter.gguf"]);
    assert_eq!(std::fs::read(directory.path().join("adapter.gguf")).unwrap()[..4], *b"GGUF");
    let output = milepost(directory.path(), &["adapters", "inspect", "nowhere", "--base", SEED], &[]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_is_examined_trained_and_put_into_service() {
    let directory = tempfile::tempdir().unwrap();
    let lora = [("MILEPOST_LEARN__LORA", "{rank=4}")];
    let output = milepost(directory.path(), &["learn", "doctor", "--from", SEED, "--json"], &lora);
    let diagnosis: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && diagnosis["tensors"] == 56 && diagnosis["problems"] == serde_json::json!([]), "{diagnosis}");
    let arguments = ["learn", "sft", "--from", SEED, "--out", "run", "--steps", "2"];
    let settings =
        [lora[0], ("MILEPOST_LEARN__TOKENS_PER_BATCH", "1024"), ("MILEPOST_LEARN__WARMUP_STEPS", "1"), ("MILEPOST_LEARN__BASE", "q4_k")];
    let trained = milepost(directory.path(), &arguments, &settings);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let lineage = std::fs::read_to_string(directory.path().join("run/adapter/lineage.json")).unwrap();
    assert!(lineage.contains("\"recipe\": \"sft\""), "{lineage}");

    let adapter = directory.path().join("run/adapter");
    let probes = probes::read(&adapter).unwrap();
    assert_eq!(probes.requests.len(), 16);
    let engine = LocalEngine::load(&LocalModelConfig { model: SEED.into(), ..Default::default() }).await.unwrap();
    let generation = engine.swap(&adapter, &probes).await.unwrap();
    assert_eq!(engine.generation(), generation);
}

#[test]
fn a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_LEARN__TOKENS_PER_BATCH", "1024"), ("MILEPOST_LEARN__CHECKPOINT_EVERY", "2")];
    let arguments = |out: &'static str| ["learn", "sft", "--from", SEED, "--out", out, "--steps", "12", "--resume"];
    let whole = milepost(directory.path(), &arguments("whole"), &settings);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));

    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_milepost"))
        .current_dir(directory.path())
        .args(arguments("cut"))
        .envs(settings)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let metrics = directory.path().join("cut/metrics.jsonl");
    while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < 5 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(milepost(directory.path(), &arguments("cut"), &settings).status.success());

    let weights = |run: &str| std::fs::read(directory.path().join(run).join("model/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("cut"), "the weights differ");
    assert_eq!(std::fs::read_to_string(metrics).unwrap().lines().count(), 12);
}
