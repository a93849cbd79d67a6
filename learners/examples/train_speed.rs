//! Prints how many tokens a second the trainer takes: the seed's shape, 32 sequences of 400 tokens, 20 trained in each.
//!
//! `RAYON_NUM_THREADS=2 cargo run --release -p milepost-learners --example train_speed -- [steps] [f32]`

use std::time::Instant;

use milepost_learners::optim::AdamWConfig;
use milepost_learners::{Batch, ModelConfig, Precision, Result, Sequence, Trainer};

fn cpu_seconds() -> f64 {
    // The 14th and 15th fields of /proc/self/stat count ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() -> Result<()> {
    let steps: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10);
    let mut trainer = Trainer::random(ModelConfig::seed(2048, 0, 1), 1, AdamWConfig::default())?;
    if std::env::args().nth(2).as_deref() == Some("f32") {
        trainer.set_precision(Precision::F32);
    }
    let sequence = |s: u32| Sequence {
        tokens: (0..400).map(|i| (i * 7919 + s * 104_729) % 2048).collect(),
        weights: (0..400).map(|i| if i < 380 { 0.0 } else { 1.0 }).collect(),
    };
    let batch = Batch { sequences: (0..32).map(sequence).collect() };
    let mut best = f64::MAX;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut loss = 0.0;
    for _ in 0..steps {
        let step = Instant::now();
        loss = trainer.forward_backward(&batch)?.loss;
        trainer.optim_step(1e-3);
        best = best.min(step.elapsed().as_secs_f64());
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let tokens = 32.0 * 400.0;
    println!("parameters       {}", trainer.model().params.data.len());
    println!("threads          {}", rayon::current_num_threads());
    println!("tokens/s (mean)  {:.0}", tokens * steps as f64 / wall);
    println!("tokens/s (best)  {:.0}", tokens / best);
    println!("tokens/cpu-s     {:.0}", tokens * steps as f64 / cpu);
    println!("loss             {loss:.4}");
    Ok(())
}
