//! Tests of adapters: they are merged once, on the right base, proved before they serve, and swapped without a failed request.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use milepost_engines::{LocalEngine, LocalModelConfig};
use milepost_runtime::{Call, Engine, GenerationEngine, Probes, ScoreRequest};

use crate::model::{SMALL, TestModel, check_decoding, difference, free, rescore};

fn probe() -> ScoreRequest {
    ScoreRequest { prompt_ids: (5..60).collect(), completion_ids: (60..90).collect(), grammar: None, temperature: 1.0 }
}

async fn probes(parent: &dyn GenerationEngine, trained: &TestModel) -> Probes {
    let trained = trained.engine().await;
    Probes {
        requests: vec![probe()],
        expected: vec![trained.score(probe()).await.unwrap()],
        parent: vec![parent.score(probe()).await.unwrap()],
    }
}

async fn with_adapter(model: &TestModel, adapter: &Path) -> LocalEngine {
    LocalEngine::load(&LocalModelConfig { adapter: Some(adapter.to_owned()), ..model.config_for_engine() }).await.unwrap()
}

/// Fails if loads share a thread without clearing it: the second adapter is then merged on top of the first, and a load of the base
/// afterwards has both.
#[tokio::test(flavor = "multi_thread")]
async fn adapters_do_not_leak_between_loads() {
    let model = TestModel::new(SMALL, 3);
    let base = model.engine().await.score(probe()).await.unwrap();
    for (name, seed) in [("first", 1000), ("second", 2000)] {
        let (adapter, merged) = model.adapter(name, seed, 0.3);
        let served = with_adapter(&model, &adapter).await.score(probe()).await.unwrap();
        let trained = merged.engine().await.score(probe()).await.unwrap();
        assert!(difference(&served, &trained) <= 1e-4, "{name} is not served alone");
        assert!(difference(&served, &base) > 1e-2, "{name} changes the model");
    }
    let after = model.engine().await.score(probe()).await.unwrap();
    assert_eq!(after, base, "a base load after adapters is clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_traffic_fails_no_request() {
    let model = TestModel::new(SMALL, 3);
    let engine = Arc::new(model.engine().await);
    let parent = engine.generation();
    let (adapter, merged) = model.adapter("next", 3000, 0.3);
    let probes = probes(engine.as_ref(), &merged).await;
    let stop = Arc::new(AtomicBool::new(false));
    let client = |number: u64| {
        let (engine, stop) = (engine.clone(), stop.clone());
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                answers.push(engine.generate(free(number, 12)).await.unwrap());
            }
            answers
        })
    };
    let clients: Vec<_> = (0..3).map(client).collect();
    let generation = engine.swap(&adapter, &probes).await.unwrap();
    let last = engine.generate(free(7, 12)).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert_eq!((last.call.generation, generation.parent.clone()), (generation.id(), Some(parent.id())));
    assert_eq!(engine.generation(), generation);
    let old = model.engine().await;
    for client in clients {
        for answer in client.await.unwrap() {
            let served: &dyn GenerationEngine = if answer.call.generation == parent.id() { &old } else { engine.as_ref() };
            check_decoding(served, &answer.call, 1e-4).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_proof_leaves_the_old_generation_serving() {
    let model = TestModel::new(SMALL, 3);
    let engine = model.engine().await;
    let before = engine.generate(free(1, 12)).await.unwrap();
    let (adapter, merged) = model.adapter("a", 4000, 0.3);
    let (other, _) = model.adapter("b", 5000, 0.3);
    let (nothing, _) = model.adapter("zero", 6000, 0.0);
    let good = probes(&engine, &merged).await;
    let unchanged = Probes { expected: good.parent.clone(), ..good.clone() };
    let refused = [
        (&other, good.clone(), "not the trained one"),
        (&nothing, unchanged, "changes nothing"),
        (&adapter, Probes::default(), "no probes"),
        (&model.path().join("nowhere"), good, "is missing"),
    ];
    for (adapter, probes, reason) in refused {
        let error = engine.swap(adapter, &probes).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let after = engine.generate(free(1, 12)).await.unwrap();
    assert_eq!((after.call.logprobs, after.call.generation), (before.call.logprobs, before.call.generation));
}

/// Fails if a load keeps anything of another generation, or if sampling depends on anything besides seed and weights.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_serves_the_same_bits_as_before() {
    let model = TestModel::new(SMALL, 3);
    let engine = model.engine().await;
    let ((first, one), (second, two)) = (model.adapter("first", 4100, 0.3), model.adapter("second", 5100, 0.3));
    let (one, two) = (probes(&engine, &one).await, probes(&engine, &two).await);
    let answers = || async {
        let mut answers = Vec::new();
        for number in 0..4 {
            let Call { completion_ids, logprobs, free_logprobs, generation, .. } = engine.generate(free(number, 24)).await.unwrap().call;
            let bits = |list: Vec<f32>| list.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            answers.push((completion_ids, bits(logprobs), bits(free_logprobs), generation));
        }
        answers
    };
    let base = answers().await;
    engine.swap(&first, &one).await.unwrap();
    engine.prove(&one).await.unwrap();
    let before = answers().await;
    engine.swap(&second, &two).await.unwrap();
    assert!(engine.prove(&one).await.unwrap_err().to_string().contains("not the trained one"));
    assert_ne!(answers().await, before, "the second adapter changes what is served");
    engine.swap(&first, &one).await.unwrap();
    assert_eq!(answers().await, before);
    assert_eq!(engine.serve_base().await.unwrap().adapter, None);
    assert_eq!(answers().await, base);
}

#[tokio::test(flavor = "multi_thread")]
async fn adapter_settings_that_mistralrs_would_ignore_are_refused() {
    let model = TestModel::new(SMALL, 3);
    let (adapter, _) = model.adapter("odd", 7000, 0.3);
    let path = adapter.join("adapter_config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("use_rslora", serde_json::json!(true)),
        ("use_dora", serde_json::json!(true)),
        ("rank_pattern", serde_json::json!({ "q_proj": 8 })),
        ("bias", serde_json::json!("all")),
        ("target_modules", serde_json::json!("q_proj|v_proj")),
        ("target_modules", serde_json::json!(["q_proj"])),
    ] {
        let mut changed = config.clone();
        changed[key] = value;
        std::fs::write(&path, changed.to_string()).unwrap();
        let config = LocalModelConfig { adapter: Some(adapter.clone()), ..model.config_for_engine() };
        let error = LocalEngine::load(&config).await.unwrap_err().to_string();
        assert!(error.contains("adapter_config.json") && (error.contains(key) || error.contains("target module")), "{error}");
    }
}

/// An engine that starts with an adapter names it in its generation, and its log-probabilities are those of the merged model.
#[tokio::test(flavor = "multi_thread")]
async fn start_up_with_an_adapter_names_it_in_the_generation() {
    let model = TestModel::new(SMALL, 3);
    let (adapter, merged) = model.adapter("start", 8000, 0.3);
    let engine = with_adapter(&model, &adapter).await;
    let generation = engine.generation();
    assert!(generation.adapter.is_some() && generation.base == model.engine().await.generation().base);
    let answer = engine.generate(free(2, 12)).await.unwrap();
    let trained = rescore(&merged.engine().await, &answer.call, None).await;
    assert!(difference(&trained, &answer.call.free_logprobs) <= 1e-4);
}
