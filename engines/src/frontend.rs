//! The text side of a local model, the same for every backend: it encodes prompts, compiles grammars, enforces the length limits and
//! records calls.

use std::time::Instant;

use milepost_runtime::{Call, Error, GenerateRequest, Generated, Generation, Result, ScoreRequest, Span};
use milepost_text::{BitMask, GrammarCompiler, TextModel, rebuild_masks};

use crate::config::LocalModelConfig;
use crate::failed;
use crate::sampling::{Sampled, Sampling};

/// The minimum number of completion tokens that must fit after a prompt.
const MIN_COMPLETION_TOKENS: usize = 32;

/// The text side of a model in service: tokenizer, chat template, grammars, the generation's identity and the context limit.
pub(crate) struct TextFrontend {
    pub(crate) text: TextModel,
    pub(crate) compiler: GrammarCompiler,
    pub(crate) generation: Generation,
    /// The maximum number of tokens of prompt and completion together.
    pub(crate) max_seq: usize,
}

/// The block size, in tokens, by which mistralrs grows its key-value cache on a CPU; it fails where a block would pass the context limit.
const CACHE_BLOCK: usize = 512;

/// Rounds a context limit down to whole blocks, so that every backend on a CPU cuts a prompt at the same place.
pub(crate) fn whole_blocks(limit: usize) -> usize {
    if limit >= CACHE_BLOCK { limit / CACHE_BLOCK * CACHE_BLOCK } else { limit }
}

impl TextFrontend {
    /// Builds the text side of a model with this identity and this context limit in tokens.
    pub(crate) fn new(config: &LocalModelConfig, text: TextModel, identity: Generation, limit: usize) -> Result<Self> {
        let generation = Generation {
            tokenizer: text.tokenizer.hash(),
            chat_template: text.template.hash(),
            prompts: config.prompts_hash.clone(),
            ..identity
        };
        let max_seq = limit.min(config.max_seq.unwrap_or(usize::MAX));
        Ok(Self { compiler: GrammarCompiler::new(&text)?, text, generation, max_seq })
    }

    /// Encodes the prompt, and prepares the constraints of its completion.
    pub(crate) fn begin(&self, request: &GenerateRequest) -> Result<(Vec<u32>, Sampling)> {
        let prompt_ids = self.text.encode_prompt(&request.messages)?;
        let sampling = Sampling {
            max_tokens: self.completion_limit(&prompt_ids, request.max_tokens)?,
            grammar: request.grammar.as_ref().map(|grammar| self.compiler.matcher(grammar)).transpose()?,
            temperature: request.temperature,
            seed: request.seed,
            end_ids: self.text.eos_ids.clone(),
        };
        Ok((prompt_ids, sampling))
    }

    /// Makes the record of a finished call.
    pub(crate) fn record(&self, request: &GenerateRequest, prompt_ids: Vec<u32>, sampled: Sampled, started: Instant) -> Generated {
        let Sampled { ids, logprobs, free_logprobs, forced_from, .. } = sampled;
        let (text, ends) = (self.text.decode(&ids), self.text.text_ends(&ids));
        let call = Call {
            role: request.role,
            prompt_ids,
            spans: vec![Span { role: request.role, start: 0, end: forced_from.unwrap_or(ids.len()) }],
            completion_ids: ids,
            grammar: request.grammar.clone(),
            logprobs,
            free_logprobs,
            temperature: request.temperature,
            seed: request.seed,
            generation: self.generation.id(),
            latency_ms: started.elapsed().as_secs_f64() * 1e3,
        };
        Generated { text, call, ends }
    }

    /// Returns the maximum number of completion tokens after this prompt; the caller requests at most `wanted`.
    fn completion_limit(&self, prompt_ids: &[u32], wanted: usize) -> Result<usize> {
        let reserved = wanted.clamp(1, MIN_COMPLETION_TOKENS);
        let left = self.max_seq.saturating_sub(prompt_ids.len());
        if prompt_ids.is_empty() || left < reserved {
            return Err(Error::PromptTooLong { tokens: prompt_ids.len(), limit: self.max_seq, reserved });
        }
        Ok(left.min(wanted.max(1)))
    }

    /// Rebuilds the masks under which a completion is scored; `None` without a grammar.
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
