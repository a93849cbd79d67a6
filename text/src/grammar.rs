//! Grammars compiled to token masks with llguidance.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use milepost_runtime::Grammar;

use crate::error::{Error, Result};
use crate::landing::{self, Hints};
use crate::mask::BitMask;
use crate::model::TextModel;

/// Compiles grammars for one tokenizer; cheap to clone, shared between threads.
#[derive(Clone)]
pub struct GrammarCompiler {
    factory: Arc<ParserFactory>,
    hints: Arc<Hints>,
    vocab: usize,
    end: u32,
}

impl GrammarCompiler {
    /// A compiler for a model's tokenizer and end token.
    ///
    /// # Errors
    /// A tokenizer that llguidance cannot read.
    pub fn new(text: &TextModel) -> Result<Self> {
        let failed = |reason: String| Error::Grammar { hash: text.tokenizer.hash(), reason: format!("the tokenizer: {reason}") };
        let mut tokenizer = text.tokenizer.byte_tokenizer().map_err(failed)?;
        tokenizer.set_eos_token(text.end_id());
        let environment = tokenizer.into_tok_env(None).map_err(|error| failed(error.to_string()))?;
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| failed(error.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        let hints = Arc::new(Hints::new(&text.tokenizer));
        Ok(Self { factory: Arc::new(factory), hints, vocab: text.tokenizer.vocab_size(), end: text.end_id() })
    }

    /// A machine at the beginning of a grammar.
    ///
    /// # Errors
    /// A grammar that does not compile.
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

    /// Number of tokens that its masks speak of.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }
}

/// Walks one completion through a grammar, saying at each place which tokens are allowed.
#[derive(Clone)]
pub struct GrammarMask {
    matcher: Matcher,
    hints: Arc<Hints>,
    vocab: usize,
    end: u32,
    ended: bool,
    hash: String,
}

impl GrammarMask {
    /// Writes the tokens allowed here to `out`; the end token is among them exactly when the text so far is a sentence.
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

    /// Takes a token; the end token ends the walk.
    ///
    /// # Errors
    /// A token that is not allowed here.
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

    /// Whether the text so far is a sentence of the grammar.
    pub fn accepting(&mut self) -> bool {
        self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false)
    }

    /// Whether nothing but the end token can follow.
    pub fn is_finished(&self) -> bool {
        self.ended || self.matcher.is_stopped()
    }

    /// A way to a sentence of at most `budget` more tokens, the end token included; `None` where none was found.
    ///
    /// An untrained model may still be in the middle of a text when its budget runs out; the engine then follows this path, so that
    /// what it returns is a sentence all the same. The same machine, budget and seed give the same path.
    pub fn landing(&self, budget: usize, seed: u64) -> Option<Vec<u32>> {
        landing::search(self, &self.hints, budget, seed)
    }

    pub(crate) fn end_id(&self) -> u32 {
        self.end
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::Grammar { hash: self.hash.clone(), reason: reason.to_string() }
    }
}

/// The mask at each token of a recorded completion: what the sampler saw, for the learner.
///
/// # Errors
/// A grammar that does not compile, or a completion that it does not allow.
pub fn rebuild_masks(compiler: &GrammarCompiler, grammar: &Grammar, completion_ids: &[u32]) -> Result<Vec<BitMask>> {
    let mut machine = compiler.matcher(grammar)?;
    completion_ids
        .iter()
        .map(|token| {
            let mut mask = BitMask::default();
            machine.allowed(&mut mask)?;
            machine.advance(*token)?;
            Ok(mask)
        })
        .collect()
}
