//! Tests of whole training runs: a tiny model learns to copy, and an interrupted run ends with the same weights as an uninterrupted one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use milepost_learners::adapter::{Adapter, LoraConfig, LoraInit};
use milepost_learners::model::{Packed, Storage, Workspace};
use milepost_learners::optim::{AdamWConfig, Step};
use milepost_learners::sft::{self, Example, ExampleSource, SftConfig};
use milepost_learners::{Batch, DeviceKind, Model, ModelConfig, Precision, Sequence, Trainer};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The devices to test: the processor, and candle's operations on the processor if the build has them.
const DEVICES: &[DeviceKind] = if cfg!(feature = "gpu-training") { &[DeviceKind::Cpu, DeviceKind::CandleCpu] } else { &[DeviceKind::Cpu] };

fn tiny() -> ModelConfig {
    let mut config = ModelConfig::seed(32, 0, 1);
    config.hidden_size = 64;
    config.intermediate_size = 128;
    config.num_hidden_layers = 2;
    config.head_dim = 16;
    config
}

/// A source of examples that copy the prompt, `x y z ; → x y z .`; they are longer at a higher difficulty.
#[derive(Default)]
struct Copying {
    calls: u64,
}

impl ExampleSource for Copying {
    fn state(&self) -> serde_json::Value {
        self.calls.into()
    }

    fn restore(&mut self, state: &serde_json::Value) {
        self.calls = state.as_u64().unwrap();
    }

    fn sample(&mut self, difficulty: f32, count: usize) -> Vec<Example> {
        self.calls += 1;
        let mut rng = StdRng::seed_from_u64(self.calls);
        let one = |_| {
            let len = 2 + (difficulty * 4.0) as usize;
            let mut prompt: Vec<u32> = (0..len).map(|_| rng.random_range(4..32)).collect();
            let mut completion = prompt.clone();
            prompt.push(2);
            completion.push(1);
            Example { prompt, completion, tag: format!("copy {len}"), ..Default::default() }
        };
        (0..count).map(one).collect()
    }
}

#[test]
fn a_tiny_model_learns_to_copy() {
    let directory = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    let config = SftConfig {
        lr: 5e-3,
        total_steps: 500,
        tokens_per_batch: 768,
        warmup_steps: 10,
        curriculum_step: 0.25,
        log_every: 50,
        ..Default::default()
    };
    let source = Box::new(Copying::default());
    let status = sft::run(&mut trainer, source, &config, directory.path()).unwrap();
    assert!(status.difficulty >= 0.5, "difficulty reached {}", status.difficulty);
    assert!(status.exact_by_tag["copy 2"].value > 0.8, "{:?}", status.exact_by_tag);
    let written = std::fs::read_to_string(directory.path().join("metrics.jsonl")).unwrap();
    assert_eq!(written.lines().count(), 500);
    assert!(directory.path().join("metrics.svg").exists());
    assert!(directory.path().join("checkpoints/step-000000500/model.safetensors").exists());
    // Resuming a finished run trains no further and has the same model.
    let mut again = Trainer::random(tiny(), 2, AdamWConfig::default()).unwrap();
    let source = Box::new(Copying::default());
    let resumed = SftConfig { resume: true, ..config };
    let after = sft::run(&mut again, source, &resumed, directory.path()).unwrap();
    assert_eq!(after.step, 500);
    assert_eq!(again.model().params.data, trainer.model().params.data);
}

#[test]
fn a_run_that_was_interrupted_ends_where_one_that_was_not_ends() {
    let config = SftConfig {
        total_steps: 30,
        tokens_per_batch: 300,
        checkpoint_every: 10,
        curriculum_threshold: 0.05,
        warmup_steps: 2,
        resume: true,
        ..Default::default()
    };
    let run = |directory: &std::path::Path| {
        let mut trainer = Trainer::random(tiny(), 2, AdamWConfig::default()).unwrap();
        let status = sft::run(&mut trainer, Box::new(Copying::default()), &config, directory).unwrap();
        (trainer.model().params.data.clone(), status)
    };
    let (straight, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (want, whole) = run(straight.path());
    // A kill after step 10 leaves the checkpoint of that step, and a partly written one.
    let mut trainer = Trainer::random(tiny(), 2, AdamWConfig::default()).unwrap();
    let short = SftConfig { stop_after: Some(10), ..config.clone() };
    sft::run(&mut trainer, Box::new(Copying::default()), &short, cut.path()).unwrap();
    std::fs::create_dir(cut.path().join("checkpoints/partial")).unwrap();
    std::fs::write(cut.path().join("checkpoints/partial/model.safetensors"), "half").unwrap();
    let (got, resumed) = run(cut.path());
    assert_eq!((resumed.step, resumed.difficulty), (30, whole.difficulty));
    assert!(got == want, "the weights differ");
}

fn batch(seed: u64) -> Batch {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sequence = |_| {
        let len = rng.random_range(2..90);
        Sequence {
            tokens: (0..len).map(|_| rng.random_range(0..32)).collect(),
            weights: (0..len).map(|_| if rng.random::<f32>() < 0.3 { 1.0 } else { 0.0 }).collect(),
            ..Default::default()
        }
    };
    Batch { sequences: (0..40).map(&mut sequence).collect() }
}

fn step(trainer: &mut Trainer, seed: u64) {
    trainer.forward_backward(&batch(seed)).unwrap();
    assert!(matches!(trainer.optim_step(1e-2), Step::Applied { .. }));
}

#[test]
fn a_saved_trainer_goes_on_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let mut straight = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    (0..3).for_each(|seed| step(&mut straight, seed));
    straight.save(directory.path()).unwrap();
    let mut resumed = Trainer::load(directory.path()).unwrap();
    for seed in 3..6 {
        step(&mut straight, seed);
        step(&mut resumed, seed);
    }
    assert_eq!(straight.model().params.data, resumed.model().params.data);
    assert_eq!((resumed.steps(), resumed.skipped()), (6, 0));
}

#[test]
fn parts_of_a_batch_add_up_to_the_batch() {
    let mut whole = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    let mut parts = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    let all = batch(1);
    whole.forward_backward(&all).unwrap();
    for sequences in all.sequences.chunks(7) {
        parts.forward_backward(&Batch { sequences: sequences.to_vec() }).unwrap();
    }
    let (Step::Applied { grad_norm: a }, Step::Applied { grad_norm: b }) = (whole.optim_step(1e-3), parts.optim_step(1e-3)) else {
        panic!("a step was skipped");
    };
    assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
}

#[test]
fn a_sum_that_is_normalised_already_is_not_divided_again() {
    let mut mean = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    let mut sum = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    [&mut mean, &mut sum].into_iter().for_each(|trainer| trainer.set_precision(Precision::F32));
    let mut normalised = batch(1);
    let total: f32 = normalised.sequences.iter().flat_map(|s| &s.weights[1..]).sum();
    mean.forward_backward(&normalised).unwrap();
    normalised.sequences.iter_mut().flat_map(|s| &mut s.weights).for_each(|w| *w /= total);
    sum.forward_backward(&normalised).unwrap();
    let (Step::Applied { grad_norm: a }, Step::Applied { grad_norm: b }) = (mean.optim_step(1e-3), sum.optim_step_of_sum(1e-3)) else {
        panic!("a step was skipped");
    };
    assert!((a - b).abs() < 1e-3 * a, "{a} {b}");
}

#[test]
fn every_tensor_has_the_gradient_that_differences_of_the_loss_have() {
    let mut model = Model::random(ModelConfig { initializer_range: 0.2, ..tiny() }, 1).unwrap();
    model.precision = Precision::F32;
    let mut packed = Packed::default();
    let mut batch = batch(4);
    for s in &mut batch.sequences {
        // Some tokens have a weight of their log-probability, some of their entropy, and some of both.
        s.entropy_weights = (0..s.tokens.len()).map(|at| if at % 3 == 1 { 0.7 } else { 0.0 }).collect();
    }
    batch.sequences.iter().enumerate().for_each(|(i, s)| packed.push(i, s));
    let mut workspace = Workspace::default();
    let mut grads = vec![0.0; model.params.data.len()];
    model.forward_backward(&packed, &mut workspace, &mut grads);
    for tensor in model.params.layout.tensors.clone() {
        let gradient = &grads[tensor.range.clone()];
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        // The slope of the loss along its own gradient is the norm of the gradient.
        let before = model.params.data.clone();
        let mut loss_at = |offset: f64| {
            let places = tensor.range.clone().zip(gradient);
            places.for_each(|(i, g)| model.params.data[i] = (f64::from(before[i]) + offset * f64::from(*g) / norm) as f32);
            model.score(&packed, &mut workspace);
            model.params.data.copy_from_slice(&before);
            let weights = packed.weights.iter().zip(&packed.entropy_weights);
            -workspace.scores.iter().zip(weights).map(|(s, (w, e))| f64::from(s.logprob * w) + f64::from(s.entropy * e)).sum::<f64>()
        };
        let slope = (loss_at(5e-3) - loss_at(-5e-3)) / 1e-2;
        assert!((slope / norm - 1.0).abs() < 0.02, "{}: {slope} {norm}", tensor.name);
    }
}

#[test]
fn bf16_products_hardly_change_what_the_model_says() {
    let mut trainer = Trainer::random(ModelConfig { initializer_range: 0.1, ..tiny() }, 1, AdamWConfig::default()).unwrap();
    let data = batch(4);
    let half = trainer.logprobs(&data.sequences).unwrap();
    trainer.set_precision(Precision::F32);
    let single = trainer.logprobs(&data.sequences).unwrap();
    let worst = half.iter().flatten().zip(single.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.1, "{worst}");
}

#[test]
fn what_cannot_be_trained_on_is_refused() {
    let mut trainer = Trainer::random(tiny(), 1, AdamWConfig::default()).unwrap();
    for (tokens, weights) in [(vec![1, 99], vec![0.0, 1.0]), (vec![1], vec![]), (vec![1, 2], vec![0.0, f32::NAN])] {
        let batch = Batch { sequences: vec![Sequence { tokens, weights, ..Default::default() }] };
        assert!(trainer.forward_backward(&batch).is_err());
    }
    assert_eq!(trainer.forward_backward(&Batch::default()).unwrap().tokens, 0);
}

#[test]
fn a_shared_beginning_gives_the_gradients_of_separate_ones() {
    // There are two groups with shared prefixes of 20 and 40 tokens, and between them one sequence alone.
    let token = |i: usize| (i * 7 % 29) as u32 + 2;
    let mut sequences = Vec::new();
    for (start, members) in [(20, 3), (5, 1), (40, 4)] {
        for member in 0..members {
            let tokens: Vec<u32> = (0..start).map(token).chain((0..4 + member).map(|i| token(i * member + start))).collect();
            let weights = (0..tokens.len()).map(|at| if at < start { 0.0 } else { 0.5 + at as f32 * 0.1 }).collect();
            sequences.push(Sequence { tokens, weights, ..Default::default() });
        }
    }
    let batch = Batch { sequences };
    for &device in DEVICES {
        let step = |share: bool| {
            let config = ModelConfig { num_hidden_layers: 2, ..ModelConfig::seed(40, 0, 1) };
            let mut trainer = Trainer::random(config, 3, AdamWConfig::default()).unwrap();
            trainer.set_precision(Precision::F32);
            trainer.set_device(device).unwrap();
            trainer.set_share_prefixes(share);
            let logprobs = trainer.logprobs(&batch.sequences).unwrap();
            let metrics = trainer.forward_backward(&batch).unwrap();
            (logprobs, metrics, trainer.gradient())
        };
        let ((shared, cheap, got), (alone, dear, want)) = (step(true), step(false));
        for (a, b) in shared.iter().flatten().zip(alone.iter().flatten()) {
            assert!((a - b).abs() < 1e-5, "{device:?}: {a} {b}");
        }
        assert!((cheap.loss - dear.loss).abs() < 1e-6 && cheap.tokens < dear.tokens, "{device:?}: {cheap:?} {dear:?}");
        let norm = want.iter().map(|g| g * g).sum::<f32>().sqrt();
        for (a, b) in got.iter().zip(&want) {
            assert!((a - b).abs() <= 1e-5 * norm, "{device:?}: {a} {b}");
        }
    }
}

#[test]
fn a_quantised_base_takes_a_quarter_and_keeps_the_gradient() {
    let sequence = |seed: usize| Sequence {
        tokens: (0..40).map(|i| ((i * 13 + seed * 7) % 31) as u32 + 1).collect(),
        weights: (0..40).map(|i| if i < 20 { 0.0 } else { 1.0 }).collect(),
        ..Default::default()
    };
    let batch = Batch { sequences: (0..6).map(sequence).collect() };
    let run = |storage| {
        let mut model = Model::random(tiny(), 5).unwrap();
        model.adapter = Some(Adapter::fresh(LoraConfig { rank: 4, ..Default::default() }, &model.config, 2, LoraInit::Random).unwrap());
        model.freeze(storage).unwrap();
        let mut trainer = Trainer::new(model, AdamWConfig::default());
        trainer.set_precision(Precision::F32);
        trainer.forward_backward(&batch).unwrap();
        let norm = trainer.gradient().iter().map(|g| g * g).sum::<f32>().sqrt();
        (trainer.model().params.linear_bytes() as f64, norm)
    };
    let (whole, want) = run(Storage::F32);
    for (storage, share, tolerance) in [(Storage::Bf16, 0.5, 0.01), (Storage::Q8_0, 0.27, 0.01)] {
        let (bytes, norm) = run(storage);
        assert!(bytes / whole <= share && (norm / want - 1.0).abs() <= tolerance, "{storage:?}: {} {}", bytes / whole, norm / want);
    }
}

#[test]
fn hidden_states_depend_on_their_own_prompt_only() {
    let mut trainer = Trainer::random(tiny(), 5, AdamWConfig::default()).unwrap();
    let long: Vec<u32> = (0..40).map(|t| 4 + t % 27).collect();
    let other = [&long[..30], &[9, 3, 7]].concat();
    // The prompts are a prefix of the second prompt, that prompt twice, one that shares only its beginning, and one of a single token.
    let prompts = [&long[..25], &long[..], &long[..], &other[..], &[7][..]];
    let hidden = trainer.hidden(&prompts).unwrap();
    assert_eq!(hidden[1], hidden[2]);
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    for (prompt, state) in prompts.iter().zip(&hidden) {
        let alone = trainer.hidden(&[prompt]).unwrap().remove(0);
        assert!(state.len() == 64 && apart(state, &alone) < 1e-5, "{} tokens: {}", prompt.len(), apart(state, &alone));
    }
    assert!(apart(&hidden[0], &hidden[1]) > 1e-2 && apart(&hidden[1], &hidden[3]) > 1e-2);
    // The head computes the log-probability of the next token from exactly this state.
    let model = trainer.model();
    let table = &model.params.data[model.params.layout.tensors[0].range.clone()];
    let logits: Vec<f32> = table.chunks_exact(64).map(|row| row.iter().zip(&hidden[3]).map(|(w, x)| w * x).sum()).collect();
    let log_sum = logits.iter().map(|z| z.exp()).sum::<f32>().ln();
    let mut weights = vec![0.0; other.len() + 1];
    weights[other.len()] = 1.0;
    let sequence = Sequence { tokens: [&other[..], &[11]].concat(), weights, ..Default::default() };
    let logprob = trainer.logprobs(&[sequence]).unwrap()[0][other.len()];
    assert!((logprob - (logits[11] - log_sum)).abs() < 1e-4, "{logprob}");
    assert!(trainer.hidden(&[&[]]).unwrap_err().to_string().contains("empty"));
}
