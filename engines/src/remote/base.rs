//! A copy on this machine of the base that a server serves: its tokenizer, its context limit and the hash of its weights.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use milepost_learners::ModelConfig;
use milepost_runtime::{GenerateRequest, Generated, Generation, Grammar, Result};
use milepost_text::{TextModel, rebuild_masks};

use super::config::RemoteModelConfig;
use crate::config::LocalModelConfig;
use crate::failed;
use crate::frontend::TextFrontend;
use crate::identity::identity;
use crate::sampling::Sampled;
use crate::source::Source;

/// How far from 0 the log-probability of a token that the grammar forces may be.
const FORCED_TOLERANCE: f32 = 0.01;
/// How many forced tokens are checked before the server counts as one that applies the grammar. They are many, because a model that has
/// learned a grammar is certain of most forced tokens even without it.
const FORCED_CHECKS: usize = 200;
/// The minimum difference of two log-probabilities that shows whether a temperature was applied.
const MIN_SPREAD: f32 = 0.2;

/// The copy on this machine of a server's base model.
pub(super) struct Base {
    frontend: TextFrontend,
    url: String,
    /// The number of forced tokens whose log-probability was 0, as it must be under the grammar.
    forced_checks: AtomicUsize,
    /// Whether the server was already seen to apply the temperature to its log-probabilities.
    temperature_checked: AtomicBool,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base({})", self.frontend.generation.base)
    }
}

impl Base {
    /// Loads the text side of the base in this directory.
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
        let (text, identity) = (TextModel::load(directory)?, identity(&source, &local, None, None)?);
        let limit = ModelConfig::load(directory).map_err(failed)?.max_position_embeddings;
        let frontend = TextFrontend::new(&local, text, identity, limit)?;
        Ok(Self { frontend, url: config.url.clone(), forced_checks: AtomicUsize::default(), temperature_checked: AtomicBool::default() })
    }

    /// Returns the generation of the base without an adapter.
    pub(super) fn generation(&self) -> Generation {
        self.frontend.generation.clone()
    }

    /// Encodes the prompt. Also returns the maximum number of completion tokens.
    pub(super) fn begin(&self, request: &GenerateRequest) -> Result<(Vec<u32>, usize)> {
        let (prompt_ids, sampling) = self.frontend.begin(request)?;
        Ok((prompt_ids, sampling.max_tokens))
    }

    /// Makes the record of a call that the server has answered, after checking its log-probabilities.
    pub(super) fn record(
        &self,
        request: &GenerateRequest,
        prompt_ids: Vec<u32>,
        ids: Vec<u32>,
        logprobs: Vec<f32>,
        started: Instant,
    ) -> Result<Generated> {
        if let Some(grammar) = request.grammar.as_ref().filter(|_| self.forced_checks.load(Ordering::Relaxed) < FORCED_CHECKS) {
            self.check_masked(grammar, &ids, &logprobs)?;
        }
        Ok(self.frontend.record(request, prompt_ids, Sampled { ids, logprobs, ..Sampled::default() }, started))
    }

    /// Checks that the server's log-probabilities are those of the distribution under the grammar, as training assumes. Most servers report
    /// them without the grammar unless they are configured otherwise; a token that the grammar forces shows it, since its probability must
    /// be 1.
    fn check_masked(&self, grammar: &Grammar, ids: &[u32], logprobs: &[f32]) -> Result<()> {
        let masks = rebuild_masks(&self.frontend.compiler, grammar, ids)
            .map_err(|error| failed(format!("{} answered outside the grammar ({error}); check remote.grammar", self.url)))?;
        let forced = masks.iter().zip(logprobs).filter(|(mask, _)| mask.count() == 1);
        for (_, logprob) in forced {
            if logprob.abs() > FORCED_TOLERANCE {
                let fix = "start vLLM with --logprobs-mode processed_logprobs";
                return Err(failed(format!(
                    "{} gives log-probabilities without the grammar ({logprob:.3} for a token that it forces); {fix}",
                    self.url
                )));
            }
            self.forced_checks.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns whether the server was already seen to apply the temperature to its log-probabilities.
    pub(super) fn temperature_checked(&self) -> bool {
        self.temperature_checked.load(Ordering::Relaxed)
    }

    /// Checks that the server's log-probabilities are those at the temperature it samples at. It compares those of the likeliest tokens at
    /// a temperature of 1 and at this one: their differences must be divided by the temperature.
    pub(super) fn check_temperature(
        &self,
        temperature: f32,
        plain: &BTreeMap<String, f32>,
        tempered: &BTreeMap<String, f32>,
    ) -> Result<()> {
        let both: Vec<(f32, f32)> = plain.iter().filter_map(|(token, at_one)| Some((*at_one, *tempered.get(token)?))).collect();
        let least = |pair: &(f32, f32), other: &(f32, f32)| pair.0.total_cmp(&other.0);
        let (Some(low), Some(high)) = (both.iter().copied().min_by(least), both.iter().copied().max_by(least)) else {
            return Err(failed(format!(
                "{} tells no log-probabilities of other tokens, so that its temperature cannot be checked",
                self.url
            )));
        };
        let (spread, other) = (high.0 - low.0, high.1 - low.1);
        if spread < MIN_SPREAD {
            return Ok(());
        }
        if (other - spread / temperature).abs() > (other - spread).abs() {
            let fix = "start vLLM with --logprobs-mode processed_logprobs";
            return Err(failed(format!("{} gives log-probabilities without the temperature that it samples at; {fix}", self.url)));
        }
        self.temperature_checked.store(true, Ordering::Relaxed);
        Ok(())
    }
}
