//! Compiles grammars to token masks with llguidance.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::TokEnv;
use llguidance::{Matcher, ParserFactory};
use milepost_runtime::Grammar;

use crate::completion::{self, Parser, VocabularyHints};
use crate::error::{Error, Result};
use crate::mask::BitMask;
use crate::model::TextModel;

/// A compiler of grammars for one tokenizer. It is cheap to clone and can be shared between threads.
#[derive(Clone)]
pub struct GrammarCompiler {
    factory: Arc<ParserFactory>,
    hints: Arc<VocabularyHints>,
    vocab: usize,
    end: u32,
}

impl GrammarCompiler {
    /// Creates a compiler for a model's tokenizer and end token.
    ///
    /// # Errors
    /// llguidance cannot read the tokenizer.
    pub fn new(text: &TextModel) -> Result<Self> {
        let failed = |reason: String| Error::Grammar { hash: text.tokenizer.hash(), reason: format!("the tokenizer: {reason}") };
        let environment: TokEnv = Arc::new(text.tokenizer.environment(text.end_id()).map_err(failed)?);
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| failed(error.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        let hints = Arc::new(VocabularyHints::new(&text.tokenizer));
        Ok(Self { factory: Arc::new(factory), hints, vocab: text.tokenizer.vocab_size(), end: text.end_id() })
    }

    /// Compiles a grammar to a parser at the start of a completion.
    ///
    /// # Errors
    /// The grammar does not compile.
    pub fn matcher(&self, grammar: &Grammar) -> Result<GrammarMask> {
        let matcher = Matcher::new(self.factory.create_parser(TopLevelGrammar::from_lark(grammar.0.clone())));
        match matcher.get_error() {
            Some(reason) => Err(Error::Grammar { hash: grammar.hash(), reason: format!("it does not compile: {reason}") }),
            None => {
                let hints = self.hints.clone();
                Ok(GrammarMask { matcher, hints, vocab: self.vocab, end: self.end, ended: false, hash: grammar.hash() })
            }
        }
    }

    /// Returns the number of tokens in its masks.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }
}

/// The parser of a grammar, which gives the mask of allowed tokens at each position of one completion.
#[derive(Clone)]
pub struct GrammarMask {
    matcher: Matcher,
    hints: Arc<VocabularyHints>,
    vocab: usize,
    end: u32,
    ended: bool,
    hash: String,
}

impl GrammarMask {
    /// Writes the mask of the next token to `out`. The end token is allowed exactly when the text so far is a sentence of the grammar.
    ///
    /// # Errors
    /// The grammar is too large for the matcher's limits.
    pub fn allowed(&mut self, out: &mut BitMask) -> Result<()> {
        if self.ended {
            *out = BitMask::none(self.vocab);
            return Ok(());
        }
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| self.failed(&error))?;
        out.set_words(mask.as_slice(), self.vocab);
        Ok(())
    }

    /// Consumes a token; the end token ends the completion.
    ///
    /// # Errors
    /// The token is not allowed at this position.
    pub fn advance(&mut self, token: u32) -> Result<()> {
        if token == self.end && !self.ended && self.accepting() {
            self.ended = true;
            return Ok(());
        }
        if self.ended || self.matcher.is_stopped() {
            return Err(self.failed(&format!("token {token} comes after its end")));
        }
        self.matcher.consume_token(token).map_err(|error| self.failed(&error))
    }

    /// Returns whether the text so far is a sentence of the grammar.
    pub fn accepting(&mut self) -> bool {
        self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false)
    }

    /// Returns whether only the end token can follow.
    pub fn is_finished(&self) -> bool {
        self.ended || self.matcher.is_stopped()
    }

    /// Finds at most `budget` more tokens, the end token included, with which the text becomes a sentence of the grammar; `None` if none
    /// were found.
    ///
    /// An untrained model may still be in the middle of a text when its budget runs out. The engine then appends these tokens, so that the
    /// completion is a sentence nevertheless. The same state, budget and seed give the same tokens.
    pub fn forced_completion(&self, budget: usize, seed: u64) -> Option<Vec<u32>> {
        completion::search(self, &self.hints, budget, seed)
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::Grammar { hash: self.hash.clone(), reason: reason.to_string() }
    }
}

impl Parser for GrammarMask {
    fn allowed(&mut self, out: &mut BitMask) -> Option<()> {
        GrammarMask::allowed(self, out).ok()
    }

    fn advance(&mut self, token: u32) -> Option<()> {
        GrammarMask::advance(self, token).ok()
    }

    fn end_id(&self) -> u32 {
        self.end
    }
}

/// Rebuilds the mask at each token of a recorded completion, so that the learner sees the masks of the sampler.
///
/// # Errors
/// The grammar does not compile, or does not allow the completion.
pub fn rebuild_masks(compiler: &GrammarCompiler, grammar: &Grammar, completion_ids: &[u32]) -> Result<Vec<BitMask>> {
    let mut parser = compiler.matcher(grammar)?;
    completion_ids
        .iter()
        .map(|token| {
            let mut mask = BitMask::default();
            parser.allowed(&mut mask)?;
            parser.advance(*token)?;
            Ok(mask)
        })
        .collect()
}
