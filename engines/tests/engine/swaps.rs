//! Many swaps: under load no request fails, and no sabotaged adapter comes into service. `make test-swap` runs the full numbers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};
use milepost_engines::{Isq, LocalEngine, LocalModelConfig};
use milepost_runtime::{Engine, GenerationEngine, Probes, ScoreRequest};

use crate::model::{SMALL, Shape, TestModel, WIDE, free};

/// Reads a number of repetitions from the environment; 1 if the variable is not set.
fn count(variable: &str) -> u64 {
    std::env::var(variable).map_or(1, |text| text.parse().unwrap())
}

fn probe() -> ScoreRequest {
    ScoreRequest { prompt_ids: (5..40).collect(), completion_ids: (40..60).collect(), grammar: None, temperature: 1.0 }
}

async fn probes(parent: &dyn GenerationEngine, trained: &TestModel) -> Probes {
    let expected = vec![trained.engine().await.score(probe()).await.unwrap()];
    Probes { requests: vec![probe()], expected, parent: vec![parent.score(probe()).await.unwrap()] }
}

/// Makes `SWAPS` swaps between two adapters while three clients send requests without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_fail_no_request() {
    let model = TestModel::new(SMALL, 3);
    let engine = Arc::new(model.engine().await);
    let mut adapters = Vec::new();
    for (name, seed) in [("one", 3100), ("other", 3200)] {
        let (adapter, merged) = model.adapter(name, seed, 0.3);
        adapters.push((adapter, probes(engine.as_ref(), &merged).await));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let client = |number: u64| {
        let (engine, stop) = (engine.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut answered, mut failed) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match engine.generate(free(number, 8)).await {
                    Ok(_) => answered += 1,
                    Err(error) => failed.push(error.to_string()),
                }
            }
            (answered, failed)
        })
    };
    let clients: Vec<_> = (0..3).map(client).collect();
    let swaps = count("SWAPS");
    for number in 0..swaps {
        let (adapter, probes) = &adapters[number as usize % 2];
        let generation = engine.swap(adapter, probes).await.unwrap();
        assert_eq!(engine.generate(free(9, 4)).await.unwrap().call.generation, generation.id(), "what was swapped in serves");
    }
    stop.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for client in clients {
        let (number, failed) = client.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        answered += number;
    }
    assert!(answered > 0, "there was load");
    println!("{swaps} swaps, {answered} requests beside them, 0 failed");
}

/// Scales every tensor of an adapter's file.
fn scaled(adapter: PathBuf, factor: f64) -> PathBuf {
    let path = adapter.join("adapter_model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let scaled = |tensor: Tensor| (tensor.to_dtype(DType::F32).unwrap() * factor).unwrap();
    let tensors = tensors.into_iter().map(|(name, tensor)| (name, scaled(tensor))).collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    adapter
}

/// Tries `TRIES` adapters of each kind: zeroed, made for another base, not a number, erased by quantisation.
#[tokio::test(flavor = "multi_thread")]
async fn sabotaged_adapters_are_refused() {
    let (model, other) = (TestModel::new(SMALL, 3), TestModel::new(Shape { hidden: 128, ..SMALL }, 3));
    let wide = TestModel::new(Shape { sharpness: 0.25, ..WIDE }, 4);
    let engine = model.engine().await;
    let (plain, quantised) = (wide.engine().await, LocalModelConfig { isq: Some(Isq::Q8_0), ..wide.config_for_engine() });
    let quantised = LocalEngine::load(&quantised).await.unwrap();
    let before = [engine.generation().id(), quantised.generation().id()];
    let tries = count("TRIES");
    for number in 0..tries {
        let seed = 6000 + 10 * number;
        let (good, merged) = model.adapter(&format!("good-{seed}"), seed, 0.3);
        let trained = probes(&engine, &merged).await;
        let unmoved = Probes { expected: trained.parent.clone(), ..trained.clone() };
        let again = |name: &str| model.adapter(&format!("{name}-{seed}"), seed, 0.3).0;
        let (tiny, faint) = wide.adapter(&format!("tiny-{seed}"), seed, 1e-4);
        let faint = probes(&plain, &faint).await;
        let foreign = other.adapter(&format!("foreign-{seed}"), seed, 0.3).0;
        let table: [(&LocalEngine, PathBuf, &Probes, &str); 5] = [
            (&engine, scaled(again("zero"), 0.0), &trained, "zeroed, with the proof of the trained one"),
            (&engine, scaled(again("still"), 0.0), &unmoved, "zeroed, with a proof that it changes nothing"),
            (&engine, foreign, &trained, "of another base"),
            (&engine, scaled(good, f64::NAN), &trained, "not a number"),
            (&quantised, tiny, &faint, "erased by quantisation"),
        ];
        for (engine, adapter, probes, sabotage) in table {
            let error = engine.swap(&adapter, probes).await.err().unwrap_or_else(|| panic!("{sabotage}: it came into service"));
            println!("{sabotage}: {error}");
        }
    }
    assert_eq!([engine.generation().id(), quantised.generation().id()], before, "the old generations serve on");
    engine.generate(free(1, 8)).await.unwrap();
    println!("{} of {} sabotaged adapters refused", 5 * tries, 5 * tries);
}
