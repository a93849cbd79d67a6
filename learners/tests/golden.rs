//! Tests of parity with transformers and PEFT on tiny models with random adapters. `tests/golden/parity.py` wrote the expected numbers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use milepost_learners::adapter::Adapter;
use milepost_learners::model::{Model, Packed, Tensor, Workspace};
use milepost_learners::optim::AdamWConfig;
use milepost_learners::{Batch, DeviceKind, Precision, Sequence, Trainer};
use safetensors::{Dtype, SafeTensors};

/// The devices to test: the processor, and candle's operations on the processor if the build has them.
const DEVICES: &[DeviceKind] = if cfg!(feature = "gpu-training") { &[DeviceKind::Cpu, DeviceKind::CandleCpu] } else { &[DeviceKind::Cpu] };

/// The numbers that transformers and PEFT computed for one model.
struct Golden {
    directory: PathBuf,
    numbers: HashMap<String, Vec<f64>>,
}

impl Golden {
    fn load(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let raw = std::fs::read(directory.join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&raw).unwrap();
        let numbers = file.tensors().into_iter().map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::I64 => view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name, values)
        });
        Self { numbers: numbers.collect(), directory }
    }

    fn get(&self, name: &str) -> &[f64] {
        self.numbers.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    fn batch(&self) -> Batch {
        let sequence = |index: usize| Sequence {
            tokens: self.get(&format!("tokens.{index}")).iter().map(|t| *t as u32).collect(),
            weights: self.get(&format!("weights.{index}")).iter().map(|w| *w as f32).collect(),
            ..Default::default()
        };
        Batch { sequences: (0..3).map(sequence).collect() }
    }

    fn model(&self, adapted: bool) -> Model {
        let mut model = Model::load(&self.directory).unwrap();
        model.precision = Precision::F32;
        if adapted {
            model.adapter = Some(Adapter::load(&self.directory.join("adapter"), &model.config).unwrap());
        }
        model
    }
}

/// Returns the loss and the gradient of the batch, after checking that recomputation changes neither.
fn loss_and_gradient(model: &mut Model, batch: &Batch) -> (f64, Vec<f32>) {
    let weight: f32 = batch.sequences.iter().flat_map(|s| &s.weights[1..]).map(|w| w.abs()).sum();
    let mut packed = Packed::default();
    for (index, sequence) in batch.sequences.iter().enumerate() {
        packed.push(index, sequence);
    }
    let mut run = |recompute| {
        model.recompute = recompute;
        let (mut ws, mut grads) = (Workspace::default(), vec![0.0; model.trained().len()]);
        model.forward_backward(&packed, &mut ws, &mut grads);
        let loss: f64 = ws.scores.iter().zip(&packed.weights).map(|(s, w)| -f64::from(s.logprob) * f64::from(*w)).sum();
        grads.iter_mut().for_each(|g| *g /= weight);
        (loss / f64::from(weight), grads)
    };
    let (kept, again) = (run(false), run(true));
    assert_eq!(kept, again, "recomputation changes nothing");
    kept
}

/// Returns the cosine of two vectors, and the relative difference of their norms.
fn compare(got: &[f32], want: &[f64]) -> (f64, f64) {
    let dot: f64 = got.iter().zip(want).map(|(g, w)| f64::from(*g) * w).sum();
    let (g, w) = (got.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt(), want.iter().map(|w| w * w).sum::<f64>().sqrt());
    (dot / (g * w).max(1e-300), (g - w).abs() / w.max(1e-300))
}

/// Checks the gradient of every tensor.
fn check_gradients(golden: &Golden, prefix: &str, tensors: &[Tensor], gradient: &[f32]) {
    for tensor in tensors {
        let want = golden.get(&format!("{prefix}{}", tensor.name));
        let (cosine, norm) = compare(&gradient[tensor.range.clone()], want);
        assert!(cosine >= 0.9999 && norm <= 1e-4, "{}: cosine {cosine}, norm off by {norm}", tensor.name);
    }
}

/// Checks one model: loss, gradients, log-probabilities and training.
fn check_parity(name: &str) {
    let golden = Golden::load(name);
    let batch = golden.batch();

    let mut model = golden.model(true);
    let (loss, gradient) = loss_and_gradient(&mut model, &batch);
    let want = golden.get("loss")[0];
    assert!(((loss - want) / want).abs() <= 1e-4, "{name}: loss {loss}, transformers say {want}");
    check_gradients(&golden, "grad.", model.trained_tensors(), &gradient);

    DEVICES.iter().for_each(|&device| check_training(name, &golden, device));

    let mut base = golden.model(false);
    let (_, gradient) = loss_and_gradient(&mut base, &batch);
    check_gradients(&golden, "full_grad.", base.trained_tensors(), &gradient);
}

/// Checks the log-probabilities with and without the adapter, and the adapter after five training steps.
fn check_training(name: &str, golden: &Golden, device: DeviceKind) {
    let config = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, clip: 1.0, muon: false };
    let batch = golden.batch();
    let on_device = |adapted| {
        let mut trainer = Trainer::new(golden.model(adapted), config);
        trainer.set_device(device).unwrap();
        trainer
    };
    let mut trainer = on_device(true);
    for adapted in [true, false] {
        let mut scorer = on_device(adapted);
        for (index, scores) in scorer.logprobs(&batch.sequences).unwrap().iter().enumerate() {
            let want = golden.get(&format!("{}logprobs.{index}", if adapted { "" } else { "base_" }));
            for (position, score) in scores.iter().enumerate().filter(|(at, _)| batch.sequences[index].weights[*at] != 0.0) {
                assert!((f64::from(*score) - want[position]).abs() <= 1e-4, "{name}: log-probability {index}, {position}");
            }
        }
    }
    for _ in 0..5 {
        trainer.forward_backward(&batch).unwrap();
        trainer.optim_step(1e-2);
    }
    for tensor in trainer.model().trained_tensors() {
        let (got, want) = (&trainer.model().trained()[tensor.range.clone()], golden.get(&format!("after.{}", tensor.name)));
        let off: f64 = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>().sqrt();
        let size: f64 = want.iter().map(|w| w * w).sum::<f64>().sqrt();
        assert!(off <= 1e-3 * size, "{name}: {} is off by {} after five steps", tensor.name, off / size);
    }
}

#[test]
fn parity_with_transformers_and_peft() {
    check_parity("qwen3");
    check_parity("qwen2");
    check_parity("llama");
}

#[test]
fn a_merged_adapter_says_what_the_adapter_beside_the_model_says() {
    let golden = Golden::load("qwen2");
    let batch = golden.batch();
    let beside = Trainer::new(golden.model(true), AdamWConfig::default()).logprobs(&batch.sequences).unwrap();
    let merged = Trainer::new(golden.model(true).merged().unwrap(), AdamWConfig::default()).logprobs(&batch.sequences).unwrap();
    for (a, b) in beside.iter().flatten().zip(merged.iter().flatten()) {
        assert!((a - b).abs() <= 1e-4, "{a} {b}");
    }
}

#[test]
fn an_adapter_survives_its_directory_and_refuses_another_model() {
    let golden = Golden::load("qwen3");
    let adapter = golden.model(true).adapter.unwrap();
    let directory = tempfile::tempdir().unwrap();
    adapter.save(directory.path(), "base", &Default::default()).unwrap();
    let read = Adapter::load(directory.path(), &golden.model(false).config).unwrap();
    assert_eq!((read.data, read.config), (adapter.data, adapter.config));
    let other = milepost_learners::ModelConfig::seed(96, 0, 1);
    assert!(Adapter::load(directory.path(), &other).unwrap_err().to_string().contains("lora_A"));
}
