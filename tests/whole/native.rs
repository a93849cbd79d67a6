//! Tests that the native engine and mistralrs give the same answers for the same generation, independently of earlier and concurrent
//! requests.

use std::sync::Arc;

use futures_util::future::join_all;
use milepost::config::Config;
use milepost::{model, wiring};
use milepost_engines::{Backend, Isq, LocalEngine, LocalModelConfig};
use milepost_runtime::registry::read_probes;
use milepost_runtime::{AdapterRegistry, GenerateRequest, Generated, GenerationEngine, Grammar, Message, Role, ScoreRequest};

use super::generations::{settings, trained};

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed");

fn config(backend: Backend) -> LocalModelConfig {
    LocalModelConfig { model: SEED.into(), backend, ..LocalModelConfig::default() }
}

/// Returns a request like those of an episode: its prompt shares a long prefix with other requests; two of three have a grammar, four of
/// five are sampled.
fn request(number: u64) -> GenerateRequest {
    let lines: String = (0..40).map(|line| format!("link \"Item {} of {}\"\n", line, number / 4)).collect();
    let grammar = "start: \"click \" name \" \" /[1-9][0-9]?/\nname: \"\\\"Red Chair\\\"\" | \"\\\"Blue Lamp\\\"\" | \"\\\"Cart\\\"\"";
    GenerateRequest {
        role: Role::Executor,
        messages: vec![Message::user(format!("react\ngoal Put \"Red Chair\" into the cart.\n{lines}turn {number}"))],
        grammar: (!number.is_multiple_of(3)).then(|| Grammar(grammar.into())),
        temperature: if number.is_multiple_of(5) { 0.0 } else { 0.7 },
        seed: number,
        max_tokens: 24,
    }
}

async fn all(engine: &Arc<dyn GenerationEngine>, numbers: impl Iterator<Item = u64>) -> Vec<Generated> {
    join_all(numbers.map(async |number| engine.generate(request(number)).await.unwrap())).await
}

fn worst(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_native_engine_answers_as_mistralrs_does() {
    let theirs: Arc<dyn GenerationEngine> = Arc::new(LocalEngine::load(&config(Backend::Mistralrs)).await.unwrap());
    let native: Arc<dyn GenerationEngine> = Arc::new(LocalEngine::load(&config(Backend::Native)).await.unwrap());
    assert_eq!(native.generation().id(), theirs.generation().id());
    let (ours, expected) = (all(&native, 0..24).await, all(&theirs, 0..24).await);
    for (ours, theirs) in ours.iter().zip(&expected) {
        assert_eq!((&ours.text, &ours.call.completion_ids, &ours.ends), (&theirs.text, &theirs.call.completion_ids, &theirs.ends));
        assert!(worst(&ours.call.logprobs, &theirs.call.logprobs) <= 1e-4, "{:?}", ours.text);
        assert!(worst(&ours.call.free_logprobs, &theirs.call.free_logprobs) <= 1e-4, "{:?}", ours.text);
        let call = &ours.call;
        let score = ScoreRequest {
            prompt_ids: call.prompt_ids.clone(),
            completion_ids: call.completion_ids.clone(),
            grammar: call.grammar.clone(),
            temperature: call.temperature,
        };
        assert!(worst(&native.score(score).await.unwrap(), &call.logprobs) <= 1e-4);
    }
    // In another order, and with all prompts in the cache, the answers are the same bit for bit.
    let again = all(&native, (0..24).rev()).await;
    for (ours, again) in ours.iter().zip(again.iter().rev()) {
        assert_eq!((&ours.call.completion_ids, &ours.call.logprobs), (&again.call.completion_ids, &again.call.logprobs));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_native_engine_proves_swaps_and_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = settings(directory.path());
    let native = Config { local: self::config(Backend::Native), ..config.clone() };
    let model = model::load(&native).await.unwrap();
    let base = model.engine.generation();
    let before = all(&model.engine, 0..4).await;
    let adapter = trained(directory.path(), &base, 8, 3);
    let registered = wiring::registry(&config).register(&adapter, &base).await.unwrap();
    let served = model.engine.swap(&adapter, &read_probes(&adapter).unwrap().unwrap()).await.unwrap();
    assert_eq!(served.id(), registered.id);
    let changed = all(&model.engine, 0..4).await;
    assert!(changed.iter().zip(&before).any(|(now, then)| now.call.logprobs != then.call.logprobs));
    let broken = trained(directory.path(), &base, 8, 4);
    let error = model.engine.swap(&broken, &read_probes(&adapter).unwrap().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("is not the trained one") && model.engine.generation().id() == served.id(), "{error}");
    model.engine.serve_base().await.unwrap();
    let back = all(&model.engine, 0..4).await;
    assert!(back.iter().zip(&before).all(|(now, then)| now.call.logprobs == then.call.logprobs), "bit for bit");
}

#[tokio::test]
async fn the_native_engine_says_what_it_does_not_serve() {
    let quantised = LocalModelConfig { isq: Some(Isq::Q8_0), ..config(Backend::Native) };
    let hub = LocalModelConfig { model: "Qwen/Qwen3-0.6B".into(), ..config(Backend::Native) };
    for (config, what) in [(quantised, "q8_0"), (hub, "not a directory of safetensors")] {
        let error = LocalEngine::load(&config).await.unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("local.backend: mistralrs"), "{error}");
    }
}
