//! The trainer, with the operations of training: `forward_backward`, `optim_step`, `logprobs`, `save` and `load`.

mod batch;
mod groups;
mod hidden;
mod worker;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, Lineage, LoraConfig, LoraInit};
use crate::composed::{DeviceGradients, DeviceModel};
use crate::device::DeviceKind;
use crate::model::{Model, ModelConfig, Storage, read_tensors, write_tensors};
use crate::ops::matmul::Precision;
use crate::optim::{AdamW, AdamWConfig, Step};
use crate::sequence::Sequence;
use crate::{Error, Result, files};
use groups::{Group, distribute, group_by_prefix, ungrouped};
use worker::{Pass, Worker};

pub use batch::{Batch, Metrics, Scored};

/// The number of tokens that one worker computes at once, unless a single group has more.
const MICRO_BATCH: usize = 1024;

/// A model in training: its parameters, its optimiser, and one worker per thread of the rayon pool.
///
/// Gradients accumulate over calls of [`Trainer::forward_backward`] until [`Trainer::optim_step`] divides them by the sum of the weights, so that
/// a large batch can be computed in parts with the same result.
pub struct Trainer {
    model: Model,
    optimizer: AdamW,
    workers: Vec<Worker>,
    /// The sum of the absolute weights of the accumulated gradients.
    weight_sum: f64,
    share_prefixes: bool,
    /// The device that computes instead of the crate's own kernels, if there is one.
    device: Option<DeviceModel>,
}

/// The part of a checkpoint that is not a tensor: the content of `trainer.json`.
#[derive(Serialize, Deserialize)]
struct State {
    optimizer: AdamWConfig,
    steps: u64,
    skipped: u64,
}

impl Trainer {
    /// Creates a trainer of a model, with a fresh optimiser.
    pub fn new(model: Model, config: AdamWConfig) -> Self {
        let optimizer = AdamW::new(config, model.trained_tensors());
        let workers = (0..rayon::current_num_threads()).map(|_| Worker::default()).collect();
        Self { model, optimizer, workers, weight_sum: 0.0, share_prefixes: true, device: None }
    }

    /// Creates a trainer of a model with random parameters.
    ///
    /// # Errors
    /// The configuration of the model is refused.
    pub fn random(config: ModelConfig, seed: u64, optimizer: AdamWConfig) -> Result<Self> {
        Ok(Self::new(Model::random(config, seed)?, optimizer))
    }

    /// Creates a trainer of a new adapter beside a model whose linear weights are stored in the format `base`.
    ///
    /// # Errors
    /// The configuration of the adapter is invalid, or a width of the model does not fit the format.
    pub fn lora(model: Model, lora: LoraConfig, base: Storage, seed: u64, optimizer: AdamWConfig) -> Result<Self> {
        let adapter = Adapter::fresh(lora, &model.config, seed, LoraInit::Zero)?;
        Self::adapted(model, adapter, base, optimizer)
    }

    /// Creates a trainer of an existing adapter beside a model whose linear weights are stored in the format `base`, with a fresh optimiser.
    ///
    /// # Errors
    /// A width of the model does not fit the format.
    pub fn adapted(mut model: Model, adapter: Adapter, base: Storage, optimizer: AdamWConfig) -> Result<Self> {
        model.freeze(base)?;
        model.adapter = Some(adapter);
        Ok(Self::new(model, optimizer))
    }

    /// Reads a checkpoint that [`Trainer::save`] wrote for a model without an adapter; training continues exactly where it stopped.
    ///
    /// # Errors
    /// A file of the checkpoint cannot be read or does not fit.
    pub fn load(directory: &Path) -> Result<Self> {
        let mut trainer = Self::new(Model::load(directory)?, AdamWConfig::default());
        trainer.restore_optimizer(directory)?;
        Ok(trainer)
    }

    /// Replaces the trained tensors and the optimiser's state by those of a checkpoint that [`Trainer::save`] wrote.
    ///
    /// # Errors
    /// A file of the checkpoint cannot be read or does not fit the model.
    pub fn restore(&mut self, directory: &Path) -> Result<()> {
        self.device.iter_mut().for_each(DeviceModel::mark_stale);
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

    /// Writes a checkpoint: the trained tensors and the optimiser's state. The directory is also a Hugging Face model directory, or a PEFT
    /// directory if an adapter is trained.
    ///
    /// Accumulated gradients are not saved, so save after a step.
    ///
    /// # Errors
    /// A file cannot be written.
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

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Changes the constants of the optimiser; its state is kept.
    pub fn set_optimizer_config(&mut self, config: AdamWConfig) {
        self.optimizer.config = config;
    }

    /// Changes the precision of matrix products.
    pub fn set_precision(&mut self, precision: Precision) {
        self.model.precision = precision;
    }

    /// Changes the device that computes. Parameters and the optimiser stay in main memory, so that nothing else changes.
    ///
    /// # Errors
    /// This build or this machine does not have the device.
    pub fn set_device(&mut self, device: DeviceKind) -> Result<()> {
        if self.device.as_ref().map_or(DeviceKind::Cpu, DeviceModel::kind) != device {
            self.device = DeviceModel::open(device)?;
        }
        Ok(())
    }

    /// Sets whether a prefix that sequences of a batch share is computed once for all of them (the default) or once for each.
    pub fn set_share_prefixes(&mut self, share: bool) {
        self.share_prefixes = share;
    }

    /// Sets whether only the inputs of layers are saved and their other activations computed again in the backward pass, which takes less memory
    /// and about a third more time.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.model.recompute = recompute;
    }

    /// Returns the accumulated gradient divided by the sum of the weights; it has the length of [`Model::trained`].
    pub fn gradient(&self) -> Vec<f32> {
        let len = self.model.trained().len();
        let factor = if self.weight_sum > 0.0 { (1.0 / self.weight_sum) as f32 } else { 0.0 };
        let mut total = vec![0.0; len];
        for worker in self.workers.iter().filter(|worker| worker.grads.len() == len) {
            crate::ops::vector::add(&mut total, &worker.grads);
        }
        crate::ops::vector::scale(&mut total, factor);
        total
    }

    /// Returns the number of steps that changed the parameters.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps
    }

    /// Returns the number of steps that were skipped because the gradient was not finite.
    pub fn skipped(&self) -> u64 {
        self.optimizer.skipped
    }

    /// Accumulates the gradient of `Σ (weight * -logprob + entropy_weight * -entropy)` and returns metrics of the batch.
    ///
    /// # Errors
    /// A sequence cannot be trained on, or the device failed.
    pub fn forward_backward(&mut self, batch: &Batch) -> Result<Metrics> {
        let len = self.model.trained().len();
        for worker in self.used_workers() {
            worker.grads.resize(len, 0.0);
            // A call that failed may have left the gradients of a part of its batch.
            worker.device_gradients = DeviceGradients::default();
        }
        let scored = self.compute(&batch.sequences, Pass::Gradient, Worker::results)?;
        self.used_workers().try_for_each(|worker| worker.device_gradients.move_to(&mut worker.grads))?;
        let weights = batch.sequences.iter().flat_map(|s| s.weights.iter().skip(1));
        let weight: f64 = weights.map(|w| f64::from(w.abs())).sum();
        self.weight_sum += weight;
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

    /// Updates the parameters with the accumulated gradient, divided by the sum of the weights.
    pub fn optim_step(&mut self, lr: f32) -> Step {
        let factor = if self.weight_sum > 0.0 { (1.0 / self.weight_sum) as f32 } else { 0.0 };
        self.step_by(factor, lr)
    }

    /// Updates the parameters with the accumulated gradient as it is, for weights that a loss has already normalised.
    pub fn optim_step_of_sum(&mut self, lr: f32) -> Step {
        self.step_by(1.0, lr)
    }

    fn step_by(&mut self, factor: f32, lr: f32) -> Step {
        self.weight_sum = 0.0;
        self.device.iter_mut().for_each(DeviceModel::mark_stale);
        let len = self.model.trained().len();
        let used = self.workers.iter_mut().filter(|w| w.grads.len() == len);
        let mut grads: Vec<&mut [f32]> = used.map(|w| &mut w.grads[..]).collect();
        self.optimizer.step(self.model.trained_mut(), &mut grads, factor, lr)
    }

    /// Scores every token with a weight. Returns one list per sequence with a score for each token, which is 0 for tokens without a weight.
    ///
    /// # Errors
    /// A sequence cannot be scored, or the device failed.
    pub fn score(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<Scored>>> {
        let results = self.compute(sequences, Pass::Scores, Worker::results)?;
        let mut scored: Vec<Vec<Scored>> = sequences.iter().map(|s| vec![Scored::default(); s.tokens.len()]).collect();
        for s in results {
            for (position, token) in s.tokens {
                scored[s.index][position] = token;
            }
        }
        Ok(scored)
    }

    /// Returns the log-probabilities of [`Trainer::score`].
    ///
    /// # Errors
    /// A sequence cannot be scored, or the device failed.
    pub fn logprobs(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        let scored = self.score(sequences)?;
        Ok(scored.into_iter().map(|tokens| tokens.into_iter().map(|token| token.logprob).collect()).collect())
    }

    /// Returns the workers that compute: all of them, or one if a device computes.
    fn used_workers(&mut self) -> impl Iterator<Item = &mut Worker> {
        let used = if self.device.is_some() { 1 } else { self.workers.len() };
        self.workers.iter_mut().take(used)
    }

    /// Distributes the sequences over the workers, which compute them in micro-batches, and returns what `read` reads after each micro-batch, in no
    /// particular order.
    fn compute<T: Send>(&mut self, sequences: &[Sequence], pass: Pass, read: impl Fn(&Worker) -> Vec<T> + Sync) -> Result<Vec<T>> {
        self.check(sequences)?;
        if let Some(device) = &mut self.device {
            device.sync(&self.model)?;
        }
        let groups = self.group(sequences);
        let shares = distribute(&groups, self.used_workers().count());
        let (model, device) = (&self.model, self.device.as_ref());
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
                        worker.compute(model, device, pass)?;
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
        if self.share_prefixes { group_by_prefix(sequences) } else { ungrouped(sequences) }
    }

    /// Checks that the model can compute every sequence.
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
