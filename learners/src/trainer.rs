//! The four verbs of training: `forward_backward`, `optim_step`, `logprobs`, `save` and `load`.

mod batch;
mod groups;
mod worker;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, Fresh, Lineage, LoraConfig};
use crate::composed::{Composed, DeviceKind, Sums};
use crate::model::{Model, ModelConfig, Storage, read_tensors, write_tensors};
use crate::ops::matmul::Precision;
use crate::optim::{AdamW, AdamWConfig, Step};
use crate::{Error, Result, files};
use groups::{Group, groups, share, singles};

pub use batch::{Batch, Metrics, Scored, Sequence};
pub(crate) use worker::{Ask, Worker};

/// Tokens that one worker takes through the model at once, unless one sequence is longer.
const MICRO_BATCH: usize = 1024;

/// A model in training: parameters, optimiser, and one worker per thread of the rayon pool.
///
/// Gradients add up over calls of [`Trainer::forward_backward`] until [`Trainer::optim_step`] divides them by the weights
/// seen, so that a large batch in parts equals the batch in one.
pub struct Trainer {
    model: Model,
    optimizer: AdamW,
    workers: Vec<Worker>,
    weight_seen: f64,
    share_prefixes: bool,
    /// The device that computes in the workers' place.
    composed: Option<Composed>,
}

/// The part of the state that is not a tensor.
#[derive(Serialize, Deserialize)]
struct State {
    optimizer: AdamWConfig,
    steps: u64,
    skipped: u64,
}

impl Trainer {
    /// Trains a model from rest.
    pub fn new(model: Model, config: AdamWConfig) -> Self {
        let optimizer = AdamW::new(config, model.trained_tensors());
        let workers = (0..rayon::current_num_threads()).map(|_| Worker::default()).collect();
        Self { model, optimizer, workers, weight_seen: 0.0, share_prefixes: true, composed: None }
    }

    /// Trains a fresh random model.
    pub fn random(config: ModelConfig, seed: u64, optimizer: AdamWConfig) -> Result<Self> {
        Ok(Self::new(Model::random(config, seed)?, optimizer))
    }

    /// Trains a fresh adapter beside a model whose linear weights are kept in `base`.
    pub fn lora(model: Model, lora: LoraConfig, base: Storage, seed: u64, optimizer: AdamWConfig) -> Result<Self> {
        let adapter = Adapter::fresh(lora, &model.config, seed, Fresh::Zero)?;
        Self::adapted(model, adapter, base, optimizer)
    }

    /// Trains this adapter on, beside a model whose linear weights are kept in `base`; the optimiser starts from rest.
    pub fn adapted(mut model: Model, adapter: Adapter, base: Storage, optimizer: AdamWConfig) -> Result<Self> {
        model.freeze(base)?;
        model.adapter = Some(adapter);
        Ok(Self::new(model, optimizer))
    }

    /// Reads what [`Trainer::save`] wrote for a fully trained model; training goes on as if it had never stopped.
    pub fn load(directory: &Path) -> Result<Self> {
        let mut trainer = Self::new(Model::load(directory)?, AdamWConfig::default());
        trainer.restore_optimizer(directory)?;
        Ok(trainer)
    }

    /// Puts what [`Trainer::save`] wrote in the place of what is trained: the adapter where there is one, else the model.
    pub fn restore(&mut self, directory: &Path) -> Result<()> {
        self.composed.iter_mut().for_each(Composed::moved);
        match &mut self.model.adapter {
            Some(adapter) => *adapter = Adapter::load(directory, &self.model.config)?,
            None => self.model.params = Model::load(directory)?.params,
        }
        self.restore_optimizer(directory)
    }

    fn restore_optimizer(&mut self, directory: &Path) -> Result<()> {
        let path = directory.join("trainer.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let state: State = serde_json::from_str(&text).map_err(Error::json(&path))?;
        let moments = directory.join("optimizer.safetensors");
        let mut optimizer = AdamW::new(state.optimizer, self.model.trained_tensors());
        optimizer.first = read_tensors(&moments, self.model.trained_tensors(), "first.")?;
        optimizer.second = read_tensors(&moments, self.model.trained_tensors(), "second.")?;
        (optimizer.steps, optimizer.skipped) = (state.steps, state.skipped);
        self.optimizer = optimizer;
        Ok(())
    }

    /// Writes what is trained and the optimiser to a directory that is also a Hugging Face model directory, or PEFT's of an adapter.
    ///
    /// Accumulated gradients are not part of it: save after a step.
    pub fn save(&self, directory: &Path) -> Result<()> {
        match &self.model.adapter {
            Some(adapter) => adapter.save(directory, "", &Lineage::default())?,
            None => self.model.save(directory)?,
        }
        let AdamW { config, steps, skipped, first, second, .. } = &self.optimizer;
        let parts = [("first.", &first[..]), ("second.", &second[..])];
        write_tensors(&directory.join("optimizer.safetensors"), self.model.trained_tensors(), &parts)?;
        let path = directory.join("trainer.json");
        let state = State { optimizer: *config, steps: *steps, skipped: *skipped };
        let text = serde_json::to_string_pretty(&state).map_err(Error::json(&path))?;
        files::replace(&path, text.as_bytes())
    }

    /// The model as it is.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Changes the optimiser's constants, and nothing of its state.
    pub fn set_optimizer_config(&mut self, config: AdamWConfig) {
        self.optimizer.config = config;
    }

    /// Changes the numbers that products are computed in.
    pub fn set_precision(&mut self, precision: Precision) {
        self.model.precision = precision;
    }

    /// Computes on this device from now on; what is trained and the optimiser stay where they are, so that all else is the same.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub fn set_device(&mut self, device: DeviceKind) -> Result<()> {
        if self.composed.as_ref().map_or(DeviceKind::Cpu, Composed::kind) != device {
            self.composed = Composed::open(device)?;
        }
        Ok(())
    }

    /// Computes a beginning that neighbours in a batch share once for all of them (the default), or once for each.
    pub fn set_share_prefixes(&mut self, share: bool) {
        self.share_prefixes = share;
    }

    /// Keeps only layer inputs and computes the rest again on the way back: less memory for about a third more time.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.model.recompute = recompute;
    }

    /// The gradient accumulated so far, divided by the weights seen; as long as what is trained.
    pub fn gradient(&self) -> Vec<f32> {
        let len = self.model.trained().len();
        let factor = if self.weight_seen > 0.0 { (1.0 / self.weight_seen) as f32 } else { 0.0 };
        let mut total = vec![0.0; len];
        for worker in self.workers.iter().filter(|worker| worker.grads.len() == len) {
            crate::ops::vector::add(&mut total, &worker.grads);
        }
        crate::ops::vector::scale(&mut total, factor);
        total
    }

    /// Steps that moved the parameters.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps
    }

    /// Steps that were skipped for a gradient that was not finite.
    pub fn skipped(&self) -> u64 {
        self.optimizer.skipped
    }

    /// Adds the gradient of `Σ (weight * -logprob + entropy_weight * -entropy)` and says how well the batch was predicted.
    pub fn forward_backward(&mut self, batch: &Batch) -> Result<Metrics> {
        let len = self.model.trained().len();
        for worker in self.used_workers() {
            worker.grads.resize(len, 0.0);
            // What a call that failed has left there is of no whole batch.
            worker.sums = Sums::default();
        }
        let scored = self.run(&batch.sequences, Ask::Gradient, Worker::findings)?;
        self.used_workers().try_for_each(|worker| worker.sums.move_to(&mut worker.grads))?;
        let weights = batch.sequences.iter().flat_map(|s| s.weights.iter().skip(1));
        let weight: f64 = weights.map(|w| f64::from(w.abs())).sum();
        self.weight_seen += weight;
        let mut metrics = Metrics {
            loss: scored.iter().map(|s| s.loss).sum::<f64>() / weight.max(f64::MIN_POSITIVE),
            tokens: self.group(&batch.sequences).iter().map(|group| group.tokens).sum(),
            trained_tokens: scored.iter().map(|s| s.tokens.len()).sum(),
            entropy: f64::NAN,
            exact: f64::NAN,
            exact_sequences: vec![None; batch.sequences.len()],
        };
        for s in &scored {
            metrics.exact_sequences[s.index] = s.exact;
        }
        let entropies: f64 = scored.iter().flat_map(|s| &s.tokens).map(|(_, token)| f64::from(token.entropy)).sum();
        metrics.entropy = entropies / metrics.trained_tokens as f64;
        let judged: Vec<bool> = metrics.exact_sequences.iter().flatten().copied().collect();
        metrics.exact = judged.iter().filter(|e| **e).count() as f64 / judged.len() as f64;
        Ok(metrics)
    }

    /// Moves the parameters by the gradient that has accumulated, divided by the weights that it has seen.
    pub fn optim_step(&mut self, lr: f32) -> Step {
        let factor = if self.weight_seen > 0.0 { (1.0 / self.weight_seen) as f32 } else { 0.0 };
        self.step_by(factor, lr)
    }

    /// Moves the parameters by the gradient as it has accumulated: for weights that a loss has normalised already.
    pub fn optim_step_of_sum(&mut self, lr: f32) -> Step {
        self.step_by(1.0, lr)
    }

    fn step_by(&mut self, factor: f32, lr: f32) -> Step {
        self.weight_seen = 0.0;
        self.composed.iter_mut().for_each(Composed::moved);
        let len = self.model.trained().len();
        let used = self.workers.iter_mut().filter(|w| w.grads.len() == len);
        let mut grads: Vec<&mut [f32]> = used.map(|w| &mut w.grads[..]).collect();
        self.optimizer.step(self.model.trained_mut(), &mut grads, factor, lr)
    }

    /// What the model says about every token with a weight, and 0 elsewhere; one list per sequence, as long as it.
    pub fn score(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<Scored>>> {
        let findings = self.run(sequences, Ask::Scores, Worker::findings)?;
        let mut scored: Vec<Vec<Scored>> = sequences.iter().map(|s| vec![Scored::default(); s.tokens.len()]).collect();
        for s in findings {
            for (position, token) in s.tokens {
                scored[s.index][position] = token;
            }
        }
        Ok(scored)
    }

    /// The log-probabilities of [`Trainer::score`].
    pub fn logprobs(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        let scored = self.score(sequences)?;
        Ok(scored.into_iter().map(|tokens| tokens.into_iter().map(|token| token.logprob).collect()).collect())
    }

    /// The workers that compute: all of them, or one beside a device.
    fn used_workers(&mut self) -> impl Iterator<Item = &mut Worker> {
        let used = if self.composed.is_some() { 1 } else { self.workers.len() };
        self.workers.iter_mut().take(used)
    }

    /// Lets every worker take its share through the model, one micro-batch after the other; what is read of each, in no order.
    pub(crate) fn run<T: Send>(&mut self, sequences: &[Sequence], ask: Ask, read: impl Fn(&Worker) -> Vec<T> + Sync) -> Result<Vec<T>> {
        self.check(sequences)?;
        if let Some(composed) = &mut self.composed {
            composed.sync(&self.model)?;
        }
        let groups = self.group(sequences);
        let shares = share(&groups, self.used_workers().count());
        let (model, composed) = (&self.model, self.composed.as_ref());
        let found: Vec<Vec<T>> = self
            .workers
            .par_iter_mut()
            .zip(shares)
            .map(|(worker, share)| {
                let mut found = Vec::with_capacity(share.len());
                worker.packed.clear();
                for (i, &group) in share.iter().enumerate() {
                    group.pack(&mut worker.packed, sequences);
                    let next = share.get(i + 1).map_or(usize::MAX, |group| group.tokens);
                    if worker.packed.tokens.len().saturating_add(next) > MICRO_BATCH && !worker.packed.rows.is_empty() {
                        worker.compute(model, composed, ask)?;
                        found.extend(read(worker));
                        worker.packed.clear();
                    }
                }
                Ok(found)
            })
            .collect::<Result<_>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    fn group(&self, sequences: &[Sequence]) -> Vec<Group> {
        if self.share_prefixes { groups(sequences) } else { singles(sequences) }
    }

    fn check(&self, sequences: &[Sequence]) -> Result<()> {
        let (vocabulary, positions) = (self.model.config.vocab_size, self.model.max_tokens());
        for (index, sequence) in sequences.iter().enumerate() {
            if let Some(problem) = sequence.problem(vocabulary, positions) {
                return Err(Error::Batch { index, problem });
            }
        }
        Ok(())
    }
}
