//! Tests that the composed operations agree with the crate's own kernels, on candle's CPU or on the GPU that the build is for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::Range;
use std::sync::Arc;

use milepost_learners::adapter::{Adapter, LoraConfig, LoraInit};
use milepost_learners::model::{RopeScaling, Storage};
use milepost_learners::optim::AdamWConfig;
use milepost_learners::policy::{self, ActorKind, CreditKind, ModelCall, PolicyConfig, Rollout};
use milepost_learners::sft::{self, Example, ExampleSource, SftConfig};
use milepost_learners::{Batch, DeviceKind, Metrics, Model, ModelConfig, Precision, Sequence, Trainer};

const VOCABULARY: usize = 48;

/// The device that is compared with the crate's own kernels.
const DEVICE: DeviceKind = if cfg!(feature = "cuda") {
    DeviceKind::Cuda
} else if cfg!(feature = "metal") {
    DeviceKind::Metal
} else {
    DeviceKind::CandleCpu
};

fn shape(model_type: &str) -> ModelConfig {
    let llama = model_type == "llama";
    ModelConfig {
        model_type: model_type.into(),
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 3,
        head_dim: 8,
        initializer_range: 0.1,
        tie_word_embeddings: model_type != "qwen2",
        rope_scaling: llama.then_some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        }),
        ..ModelConfig::seed(VOCABULARY, 0, 1)
    }
}

/// Returns a model with random parameters, whose biases are not zero either, and with a random adapter if `lora` is given.
fn model(shape: ModelConfig, lora: Option<LoraConfig>) -> Model {
    let mut model = Model::random(shape, 3).unwrap();
    let biases: Vec<Range<usize>> =
        model.params.layout.tensors.iter().filter(|t| t.name.ends_with("bias")).map(|t| t.range.clone()).collect();
    for (at, x) in biases.into_iter().flatten().enumerate() {
        model.params.data[x] = (at * 37 % 19) as f32 * 0.02 - 0.18;
    }
    model.adapter = lora.map(|lora| Adapter::fresh(lora, &model.config, 2, LoraInit::Random).unwrap());
    model
}

fn trainer(model: &Model, device: DeviceKind) -> Trainer {
    let mut trainer = Trainer::new(model.clone(), AdamWConfig::default());
    trainer.set_precision(Precision::F32);
    trainer.set_device(device).unwrap();
    trainer
}

/// Returns a batch of two groups with shared prefixes of 20 and 40 tokens, one sequence alone, and one with two needed predictions only. It has
/// masks, temperatures, weights of both signs, and weights of entropies.
fn batch() -> Batch {
    let token = |i: usize| (i * i * 7 + i * 3) as u32 % VOCABULARY as u32;
    let mut sequences = Vec::new();
    for (start, members) in [(20, 3), (5, 1), (40, 4)] {
        for member in 0..members {
            let tokens: Vec<u32> = (0..start).map(token).chain((0..4 + member).map(|i| token(i * (member + 2) + start))).collect();
            let trained = |at: usize| at >= start;
            let mask = |at: usize| {
                let narrow = trained(at) && at.is_multiple_of(2) && member != 1;
                narrow.then(|| Arc::from([0x0f0f_3355 | 1 << (tokens[at] % 32), 1 << (tokens[at] % 32)]))
            };
            sequences.push(Sequence {
                weights: (0..tokens.len()).map(|at| if trained(at) { 0.8 - 0.3 * (at % 5) as f32 } else { 0.0 }).collect(),
                entropy_weights: (0..tokens.len()).map(|at| if trained(at) && member == 2 { 0.2 } else { 0.0 }).collect(),
                masks: (0..tokens.len()).map(mask).collect(),
                temperature: [1.0, 0.6, 0.0][member % 3],
                tokens,
            });
        }
    }
    let weights = (0..60).map(|at| if [7, 50].contains(&at) { 1.0 } else { 0.0 }).collect();
    sequences.push(Sequence { tokens: (3..63).map(token).collect(), weights, ..Default::default() });
    Batch { sequences }
}

/// Returns the cosine of two vectors, and the relative difference of their norms.
fn compare(got: &[f32], want: &[f32]) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (g, w) = (dot(got, got).sqrt(), dot(want, want).sqrt());
    (dot(got, want) / (g * w).max(1e-300), (g - w).abs() / w.max(1e-300))
}

/// Checks that the metrics of a batch agree.
fn check_metrics(name: &str, got: &Metrics, want: &Metrics) {
    assert!((got.loss - want.loss).abs() < 1e-5 && (got.entropy - want.entropy).abs() < 1e-5, "{name}: {got:?} {want:?}");
    assert_eq!((got.trained_tokens, &got.exact_sequences), (want.trained_tokens, &want.exact_sequences), "{name}");
}

/// Checks that log-probabilities, entropies, loss and every gradient of the batch on the device agree with those of the crate's own kernels.
fn check_agreement(name: &str, model: &Model, prepare: impl Fn(&mut Trainer)) {
    let batch = batch();
    let (mut own, mut composed) = (trainer(model, DeviceKind::Cpu), trainer(model, DEVICE));
    prepare(&mut composed);
    let (want, got) = (own.score(&batch.sequences).unwrap(), composed.score(&batch.sequences).unwrap());
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!((got.logprob - want.logprob).abs() <= 1e-4 && (got.entropy - want.entropy).abs() <= 1e-4, "{name}: {got:?} {want:?}");
    }
    // The batch is computed twice, because gradients accumulate.
    for _ in 0..2 {
        check_metrics(name, &composed.forward_backward(&batch).unwrap(), &own.forward_backward(&batch).unwrap());
    }
    let (got, want) = (composed.gradient(), own.gradient());
    for tensor in model.trained_tensors() {
        let (got, want) = (&got[tensor.range.clone()], &want[tensor.range.clone()]);
        let (cosine, norm) = compare(got, want);
        assert!(cosine >= 0.9999 && norm <= 1e-4, "{name}: {}: cosine {cosine}, norm off by {norm}", tensor.name);
    }
}

#[test]
fn every_gradient_is_that_of_the_own_kernels() {
    let lora = || Some(LoraConfig { rank: 4, ..Default::default() });
    for model_type in ["qwen3", "qwen2", "llama"] {
        check_agreement(&format!("{model_type}, adapter"), &model(shape(model_type), lora()), |_| {});
        check_agreement(&format!("{model_type}, all parameters"), &model(shape(model_type), None), |_| {});
    }
    let whole = model(shape("qwen3"), None);
    check_agreement("prefixes expanded", &whole, |trainer| trainer.set_share_prefixes(false));
    check_agreement("recomputed", &whole, |trainer| trainer.set_recompute(true));
    let mut small = model(shape("qwen2"), lora());
    small.freeze(Storage::Bf16).unwrap();
    check_agreement("frozen in bf16", &small, |_| {});
}

#[test]
fn a_sequence_of_several_blocks_and_micro_batches_agrees() {
    let model = model(ModelConfig { num_hidden_layers: 2, ..shape("qwen3") }, Some(LoraConfig { rank: 2, ..Default::default() }));
    let token = |i: usize| (i * 31 % 47) as u32;
    let sequence = |len: usize| Sequence {
        tokens: (0..len).map(token).collect(),
        weights: (0..len).map(|at| if at % 3 == 0 { 0.5 } else { 0.0 }).collect(),
        ..Default::default()
    };
    let batch = Batch { sequences: vec![sequence(1300), sequence(10), sequence(700), sequence(500)] };
    let run = |device| {
        let mut trainer = trainer(&model, device);
        let metrics = trainer.forward_backward(&batch).unwrap();
        (metrics, trainer.gradient())
    };
    let ((metrics, got), (want_metrics, want)) = (run(DEVICE), run(DeviceKind::Cpu));
    check_metrics("blocks", &metrics, &want_metrics);
    let (cosine, norm) = compare(&got, &want);
    assert!(cosine >= 0.9999 && norm <= 1e-4, "{cosine} {norm}");
}

#[test]
fn hidden_states_and_checkpoints_go_with_the_device() {
    let model = model(shape("qwen3"), Some(LoraConfig { rank: 2, ..Default::default() }));
    let prompts: [&[u32]; 2] = [&[3, 1, 4, 1, 5], &[2, 7, 1]];
    let (mut own, mut composed) = (trainer(&model, DeviceKind::Cpu), trainer(&model, DEVICE));
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    for (got, want) in composed.hidden(&prompts).unwrap().iter().zip(own.hidden(&prompts).unwrap()) {
        assert!(got.len() == want.len() && close(got, &want), "{got:?} {want:?}");
    }
    // A checkpoint from a device continues on the crate's own kernels, and on a device again.
    let directory = tempfile::tempdir().unwrap();
    let batch = batch();
    composed.forward_backward(&batch).unwrap();
    composed.optim_step(1e-3);
    composed.save(directory.path()).unwrap();
    let moved = composed.logprobs(&batch.sequences).unwrap().concat();
    own.restore(directory.path()).unwrap();
    assert!(close(&own.logprobs(&batch.sequences).unwrap().concat(), &moved));
    let mut later = trainer(&model, DEVICE);
    assert!(!close(&later.logprobs(&batch.sequences).unwrap().concat(), &moved));
    later.restore(directory.path()).unwrap();
    assert!(close(&later.logprobs(&batch.sequences).unwrap().concat(), &moved));
    later.set_device(DeviceKind::Cpu).unwrap();
    assert!(close(&later.logprobs(&batch.sequences).unwrap().concat(), &moved));
}

/// A source of examples that copy the prompt: `x y z ; → x y z .`
struct Copying(u64);

impl ExampleSource for Copying {
    fn state(&self) -> serde_json::Value {
        self.0.into()
    }

    fn restore(&mut self, state: &serde_json::Value) {
        self.0 = state.as_u64().unwrap();
    }

    fn sample(&mut self, _difficulty: f32, count: usize) -> Vec<Example> {
        let one = |_| {
            self.0 += 1;
            let letters: Vec<u32> = (0..4).map(|i| 4 + (self.0 as u32 * (i + 3) * 7) % 40).collect();
            Example { prompt: [&letters[..], &[2]].concat(), completion: [&letters[..], &[1]].concat(), ..Default::default() }
        };
        (0..count).map(one).collect()
    }
}

/// Checks that two trainers changed their weights, and to the same values.
fn check_same_end(name: &str, start: &[f32], got: &Trainer, want: &Trainer) {
    let (got, want) = (got.model().trained(), want.model().trained());
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let size = norm(&mut want.iter().copied());
    let off = norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / size;
    let moved = norm(&mut start.iter().zip(want).map(|(a, b)| a - b)) / size;
    assert!(off <= 1e-3 && moved >= 1e-2, "{name}: off by {off} after moving by {moved}");
}

#[test]
fn supervised_training_ends_at_the_same_weights() {
    for (name, lora) in [("adapter", Some(LoraConfig { rank: 4, ..Default::default() })), ("all parameters", None)] {
        let model = model(shape("qwen3"), lora);
        let run = |device| {
            let directory = tempfile::tempdir().unwrap();
            let config = SftConfig {
                device,
                precision: Precision::F32,
                total_steps: 5,
                warmup_steps: 1,
                tokens_per_batch: 120,
                lr: 5e-3,
                checkpoint_every: 0,
                ..Default::default()
            };
            let mut trainer = Trainer::new(model.clone(), config.optimizer());
            sft::run(&mut trainer, Box::new(Copying(0)), &config, directory.path()).unwrap();
            trainer
        };
        check_same_end(name, model.trained(), &run(DEVICE), &run(DeviceKind::Cpu));
    }
}

#[test]
fn an_update_of_the_policy_ends_at_the_same_weights() {
    let mut model = model(shape("llama"), Some(LoraConfig { rank: 4, ..Default::default() }));
    model.precision = Precision::F32;
    let mask: Option<Arc<[u32]>> = Some(Arc::from([0b1111 << 8, 0]));
    let mut scorer = trainer(&model, DeviceKind::Cpu);
    let mut turn = |task: u32, choice: u32| {
        let (prompt, completion) = (vec![2, 12 + task, 3, 4], vec![8 + choice, 9]);
        let sequence = Sequence {
            tokens: [&prompt[..], &completion].concat(),
            weights: vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
            masks: vec![None, None, None, None, mask.clone(), mask.clone()],
            temperature: 0.7,
            ..Default::default()
        };
        let old_logprobs = scorer.logprobs(&[sequence]).unwrap()[0][4..].to_vec();
        let masks = vec![mask.clone(), mask.clone()];
        ModelCall { prompt, completion, trained: vec![true; 2], masks, old_logprobs, temperature: 0.7, ..Default::default() }
    };
    let mut rollouts = Vec::new();
    for (task, choice) in (0..3).flat_map(|task| (0..4).map(move |choice| (task, choice))) {
        let success = choice == 2;
        let reward = f64::from(u8::from(success));
        rollouts.push(Rollout { group: task.to_string(), success, reward, calls: vec![turn(task, choice)], ..Default::default() });
    }
    for (credit, actor, entropy) in [(CreditKind::Episode, ActorKind::Ratio, 0.01), (CreditKind::Success, ActorKind::Likelihood, 0.0)] {
        let run = |device| {
            let directory = tempfile::tempdir().unwrap();
            let config = PolicyConfig {
                device,
                credit,
                actor,
                entropy,
                epochs: 2,
                lr: 2e-3,
                warmup_steps: 1,
                tokens_per_batch: 24,
                most_moved: 1.0,
                ..Default::default()
            };
            let mut trainer = Trainer::new(model.clone(), config.optimizer());
            policy::run(&mut trainer, &rollouts, &config, directory.path()).unwrap();
            trainer
        };
        check_same_end(&format!("{actor:?}"), model.trained(), &run(DEVICE), &run(DeviceKind::Cpu));
    }
}

#[test]
fn a_device_that_the_build_lacks_is_refused_with_what_to_do() {
    let mut trainer = trainer(&model(shape("qwen3"), None), DeviceKind::Cpu);
    for (device, feature, built) in
        [(DeviceKind::Cuda, "--features cuda", cfg!(feature = "cuda")), (DeviceKind::Metal, "--features metal", cfg!(feature = "metal"))]
    {
        if !built {
            let error = trainer.set_device(device).unwrap_err().to_string();
            assert!(error.contains("`device`") && error.contains(feature) && error.contains("device: cpu"), "{error}");
        }
    }
}
