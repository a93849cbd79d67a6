//! What stands before a local model, whatever computes its logits: prompts, grammars, limits, and the record of a call.

use std::time::Instant;

use milepost_runtime::{Call, Error, GenerateRequest, Generated, Generation, Result, ScoreRequest, Span};
use milepost_text::{BitMask, GrammarCompiler, TextModel, rebuild_masks};

use super::config::LocalModelConfig;
use super::sampling::{Sampled, Sampling};
use crate::failed;

/// Least room for an answer with which a prompt is accepted.
const LEAST_ROOM: usize = 32;

/// The text side of a model in service, and its name.
pub(crate) struct Front {
    pub(crate) text: TextModel,
    pub(crate) compiler: GrammarCompiler,
    pub(crate) generation: Generation,
    /// Most tokens of prompt and completion together.
    pub(crate) max_seq: usize,
}

/// mistralrs grows its key-value cache in blocks of so many tokens on a CPU, and fails where a block would pass the context.
const CACHE_BLOCK: usize = 512;

/// A context's limit in whole blocks; whatever computes a model on a CPU, a prompt is cut to the same page.
pub(crate) fn whole_blocks(limit: usize) -> usize {
    if limit >= CACHE_BLOCK { limit / CACHE_BLOCK * CACHE_BLOCK } else { limit }
}

impl Front {
    /// The text side of a model, served with these weights and at most so many tokens.
    pub(crate) fn new(
        config: &LocalModelConfig,
        text: TextModel,
        base: String,
        adapter: Option<String>,
        parent: Option<String>,
        limit: usize,
    ) -> Result<Self> {
        let generation = Generation {
            base,
            tokenizer: text.tokenizer.hash(),
            chat_template: text.template.hash(),
            prompts: config.prompts_hash.clone(),
            adapter,
            parent,
        };
        let max_seq = limit.min(config.max_seq.unwrap_or(usize::MAX));
        Ok(Self { compiler: GrammarCompiler::new(&text)?, text, generation, max_seq })
    }

    /// The prompt's tokens, and what the completion may do.
    pub(crate) fn begin(&self, request: &GenerateRequest) -> Result<(Vec<u32>, Sampling)> {
        let prompt_ids = self.text.encode_prompt(&request.messages)?;
        let sampling = Sampling {
            max_tokens: self.room(&prompt_ids, request.max_tokens)?,
            machine: request.grammar.as_ref().map(|grammar| self.compiler.matcher(grammar)).transpose()?,
            temperature: request.temperature,
            seed: request.seed,
            end_ids: self.text.eos_ids.clone(),
        };
        Ok((prompt_ids, sampling))
    }

    /// The record of a call that has ended.
    pub(crate) fn record(&self, request: &GenerateRequest, prompt_ids: Vec<u32>, sampled: Sampled, begun: Instant) -> Generated {
        let Sampled { ids, logprobs, free_logprobs, landed, .. } = sampled;
        let (text, ends) = (self.text.decode(&ids), self.text.text_ends(&ids));
        let call = Call {
            role: request.role,
            prompt_ids,
            spans: vec![Span { role: request.role, start: 0, end: landed.unwrap_or(ids.len()) }],
            completion_ids: ids,
            grammar: request.grammar.clone(),
            logprobs,
            free_logprobs,
            temperature: request.temperature,
            seed: request.seed,
            generation: self.generation.id(),
            latency_ms: begun.elapsed().as_secs_f64() * 1e3,
        };
        Generated { text, call, ends }
    }

    /// Tokens that the completion may have.
    fn room(&self, prompt_ids: &[u32], wanted: usize) -> Result<usize> {
        let reserved = wanted.clamp(1, LEAST_ROOM);
        let room = self.max_seq.saturating_sub(prompt_ids.len());
        if prompt_ids.is_empty() || room < reserved {
            return Err(Error::PromptTooLong { tokens: prompt_ids.len(), limit: self.max_seq, reserved });
        }
        Ok(room.min(wanted.max(1)))
    }

    /// The masks that a completion is scored under, where it has a grammar.
    pub(crate) fn masks(&self, request: &ScoreRequest) -> Result<Option<Vec<BitMask>>> {
        let ScoreRequest { prompt_ids, completion_ids, grammar, .. } = request;
        if prompt_ids.is_empty() {
            return Err(failed("a completion can be scored only after a prompt of at least one token"));
        }
        if prompt_ids.len() + completion_ids.len() > self.max_seq {
            return Err(Error::PromptTooLong { tokens: prompt_ids.len(), limit: self.max_seq, reserved: completion_ids.len() });
        }
        Ok(grammar.as_ref().map(|grammar| rebuild_masks(&self.compiler, grammar, completion_ids)).transpose()?)
    }
}
