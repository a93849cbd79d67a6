//! The base that a server serves, as it lies on this machine: its tokenizer, its context, and what its weights are called.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use milepost_learners::ModelConfig;
use milepost_runtime::{GenerateRequest, Generated, Generation, Grammar, Result};
use milepost_text::{TextModel, rebuild_masks};

use super::config::RemoteModelConfig;
use crate::failed;
use crate::local::{Front, LocalModelConfig, Sampled, Source, hash_base};

/// How far from certain a server may call a token that the grammar forces.
const CERTAIN: f32 = 0.01;
/// Forced tokens that are looked at: a model that has learned a grammar is sure of many of them by itself.
const FORCED: usize = 200;
/// Least distance of two log-probabilities at which it shows whether a temperature was applied.
const APART: f32 = 0.2;

/// A server's base on this machine.
pub(super) struct Base {
    front: Front,
    url: String,
    /// Forced tokens that the server called certain.
    certain: AtomicUsize,
    /// Whether the server was seen to give log-probabilities at the temperature it samples at.
    tempered: AtomicBool,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base({})", self.front.generation.base)
    }
}

impl Base {
    /// The text side of the base in this directory.
    pub(super) fn load(config: &RemoteModelConfig, directory: &Path) -> Result<Self> {
        let local = LocalModelConfig {
            model: directory.display().to_string(),
            prompts_hash: config.prompts_hash.clone(),
            max_seq: config.max_seq,
            ..LocalModelConfig::default()
        };
        let source = Source::find(&local)?;
        if !matches!(source, Source::Directory(_)) {
            return Err(failed(format!(
                "remote.base: {} is no directory of safetensors, and nothing else is trained on",
                directory.display()
            )));
        }
        let (text, base) = (TextModel::load(directory)?, hash_base(&source, &local)?);
        let limit = ModelConfig::load(directory).map_err(failed)?.max_position_embeddings;
        let front = Front::new(&local, text, base, None, None, limit)?;
        Ok(Self { front, url: config.url.clone(), certain: AtomicUsize::default(), tempered: AtomicBool::default() })
    }

    /// The base by itself.
    pub(super) fn generation(&self) -> Generation {
        self.front.generation.clone()
    }

    /// The prompt's tokens, and how many the completion may have.
    pub(super) fn begin(&self, request: &GenerateRequest) -> Result<(Vec<u32>, usize)> {
        let (prompt_ids, sampling) = self.front.begin(request)?;
        Ok((prompt_ids, sampling.max_tokens))
    }

    /// The record of a call that the server has answered.
    pub(super) fn record(
        &self,
        request: &GenerateRequest,
        prompt_ids: Vec<u32>,
        ids: Vec<u32>,
        logprobs: Vec<f32>,
        begun: Instant,
    ) -> Result<Generated> {
        if let Some(grammar) = request.grammar.as_ref().filter(|_| self.certain.load(Ordering::Relaxed) < FORCED) {
            self.hold(grammar, &ids, &logprobs)?;
        }
        Ok(self.front.record(request, prompt_ids, Sampled { ids, logprobs, ..Sampled::default() }, begun))
    }

    /// Training takes log-probabilities for those of the masked, tempered distribution; of most servers they are not, unless they are told. A token
    /// that the grammar forces gives it away.
    fn hold(&self, grammar: &Grammar, ids: &[u32], logprobs: &[f32]) -> Result<()> {
        let masks = rebuild_masks(&self.front.compiler, grammar, ids)
            .map_err(|error| failed(format!("{} answered outside the grammar ({error}); check remote.grammar", self.url)))?;
        let forced = masks.iter().zip(logprobs).filter(|(mask, _)| mask.count() == 1);
        for (_, logprob) in forced {
            if logprob.abs() > CERTAIN {
                let fix = "start vLLM with --logprobs-mode processed_logprobs";
                return Err(failed(format!(
                    "{} gives log-probabilities without the grammar ({logprob:.3} for a token that it forces); {fix}",
                    self.url
                )));
            }
            self.certain.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether there is nothing left to find out about the server's temperature.
    pub(super) fn is_tempered(&self) -> bool {
        self.tempered.load(Ordering::Relaxed)
    }

    /// Compares what the server says of the likeliest tokens at a temperature of 1 and at another: their distances are divided by it, where
    /// log-probabilities are those of what is sampled.
    pub(super) fn temper(&self, temperature: f32, plain: &BTreeMap<String, f32>, tempered: &BTreeMap<String, f32>) -> Result<()> {
        let both: Vec<(f32, f32)> = plain.iter().filter_map(|(token, at_one)| Some((*at_one, *tempered.get(token)?))).collect();
        let least = |pair: &(f32, f32), other: &(f32, f32)| pair.0.total_cmp(&other.0);
        let (Some(low), Some(high)) = (both.iter().copied().min_by(least), both.iter().copied().max_by(least)) else {
            return Err(failed(format!(
                "{} tells no log-probabilities of other tokens, so that its temperature cannot be checked",
                self.url
            )));
        };
        let (spread, other) = (high.0 - low.0, high.1 - low.1);
        if spread < APART {
            return Ok(());
        }
        if (other - spread / temperature).abs() > (other - spread).abs() {
            let fix = "start vLLM with --logprobs-mode processed_logprobs";
            return Err(failed(format!("{} gives log-probabilities without the temperature that it samples at; {fix}", self.url)));
        }
        self.tempered.store(true, Ordering::Relaxed);
        Ok(())
    }
}
