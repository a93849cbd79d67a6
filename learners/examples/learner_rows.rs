//! Runs this crate's side of one row of the learner benchmark (`benches/learner/run.py`) and prints a JSON object:
//! `learner_rows ROW [--bf16] [--q8 | --q4k] [--cuda | --metal | --candle-cpu] [--steps N]`.
//!
//! Rows: `flat` (SmolLM-135M's shape, adapters of rank 16 on all linear layers, 4 sequences of 256), `flat_recompute` (`flat` with
//! recomputed activations), `wide` (`flat` at width 512, which Q4_K needs), `agent_group` (`flat`'s shape, a group of 8 completions of 48
//! tokens after one prompt of 768), `full` (all parameters of the seed model's shape, 32 sequences of 256).

use std::time::Instant;

use milepost_learners::adapter::LoraConfig;
use milepost_learners::model::Storage;
use milepost_learners::optim::{AdamWConfig, Step};
use milepost_learners::{Batch, DeviceKind, Model, ModelConfig, Precision, Result, Sequence, Trainer};

/// The number of steps before the time is measured.
const WARM_UP: usize = 2;

/// Returns SmolLM-135M's shape.
fn smol() -> ModelConfig {
    ModelConfig {
        architectures: vec!["LlamaForCausalLM".into()],
        model_type: "llama".into(),
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        ..ModelConfig::seed(49_152, 0, 1)
    }
}

/// Returns sequences of pseudo-random tokens with a shared prompt; every token after the prompt is trained.
fn sequences(count: u32, prompt: usize, completion: usize, vocabulary: u32) -> Batch {
    let token = |i: u32, s: u32| (i.wrapping_mul(7919) ^ s.wrapping_mul(104_729)) % vocabulary;
    let sequence = |s: u32| Sequence {
        tokens: (0..prompt as u32).map(|i| token(i, 0)).chain((0..completion as u32).map(|i| token(i + 9, s + 1))).collect(),
        weights: (0..prompt + completion).map(|i| if i < prompt { 0.0 } else { 1.0 }).collect(),
        ..Default::default()
    };
    Batch { sequences: (0..count).map(sequence).collect() }
}

/// Returns the peak memory of this process in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let row = arguments.first().map_or("flat", String::as_str);
    let steps = arguments.iter().position(|a| a == "--steps").and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(7);
    let bf16 = arguments.iter().any(|a| a == "--bf16");
    let formats = [("--q8", Storage::Q8_0), ("--q4k", Storage::Q4K)];
    let storage = formats.into_iter().find(|(flag, _)| arguments.iter().any(|a| a == flag)).map_or(Storage::F32, |(_, storage)| storage);
    let shape =
        || if row == "wide" { ModelConfig { hidden_size: 512, num_attention_heads: 8, num_key_value_heads: 4, ..smol() } } else { smol() };
    let lora = || Trainer::lora(Model::random(shape(), 1)?, LoraConfig::default(), storage, 1, AdamWConfig::default());
    let (mut trainer, batch) = match row {
        "agent_group" => (lora()?, sequences(8, 768, 48, 49_152)),
        "full" => (Trainer::random(ModelConfig::seed(1024, 0, 1), 1, AdamWConfig::default())?, sequences(32, 1, 255, 1024)),
        _ => (lora()?, sequences(4, 1, 255, 49_152)),
    };
    trainer.set_recompute(row == "flat_recompute");
    let devices = [("--cuda", DeviceKind::Cuda), ("--metal", DeviceKind::Metal), ("--candle-cpu", DeviceKind::CandleCpu)];
    let device = devices.into_iter().find(|(flag, _)| arguments.iter().any(|a| a == flag)).map_or(DeviceKind::Cpu, |(_, device)| device);
    trainer.set_device(device)?;
    trainer.set_precision(if bf16 { Precision::Bf16 } else { Precision::F32 });
    let (mut seconds, mut loss, mut grad_norm) = (Vec::new(), 0.0, f32::NAN);
    for step in 0..WARM_UP + steps {
        let clock = Instant::now();
        loss = trainer.forward_backward(&batch)?.loss;
        if let (0, Step::Applied { grad_norm: first }) = (step, trainer.optim_step(1e-4)) {
            grad_norm = first;
        }
        if step >= WARM_UP {
            seconds.push(clock.elapsed().as_secs_f64());
        }
    }
    let tokens: usize = batch.sequences.iter().map(|s| s.tokens.len()).sum();
    let report = serde_json::json!({
        "row": row, "device": device, "precision": if bf16 { "bf16" } else { "f32" }, "seconds": seconds, "tokens": tokens, "loss": loss,
        "first_grad_norm": grad_norm, "linear_bytes": trainer.model().params.linear_bytes(), "threads": rayon::current_num_threads(),
        "peak_rss_bytes": peak_memory(),
    });
    println!("{report}");
    Ok(())
}
