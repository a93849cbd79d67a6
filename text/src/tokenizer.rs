//! Tokenizers: loading, exact encoding and decoding, and training of the seed model's tokenizer.

use std::path::Path;
use std::sync::Arc;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, TokenizerBuilder};

use crate::error::{Error, Result};
use crate::hash16;
use crate::token_bytes::{TokenBytes, token_bytes};
use crate::token_environment::TokenEnvironment;

/// The special tokens of the seed model, in id order: end of turn, padding, and the three speakers.
pub const SEED_SPECIALS: [&str; 5] = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"];

/// The pattern that splits a text before BPE: words with their leading space, single digits, runs of punctuation, white space (GPT-2's
/// split with single digits).
const SPLIT: &str = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// A tokenizer whose decoding is exact to the byte.
#[derive(Clone)]
pub struct Tokenizer {
    /// Recognises special tokens in the text (for rendered templates).
    with_specials: Arc<tokenizers::Tokenizer>,
    /// Reads special tokens as plain text (for completions and pages).
    plain: Arc<tokenizers::Tokenizer>,
    /// The bytes of each token; empty for special tokens.
    bytes: Arc<Vec<Vec<u8>>>,
    specials: Arc<Vec<(String, u32)>>,
    json: Arc<Vec<u8>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens, {})", self.vocab_size(), self.hash())
    }
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    ///
    /// # Errors
    /// The file is missing, or the tokenizer is neither byte-level nor byte-fallback.
    pub fn load(path: &Path) -> Result<Self> {
        if !path.is_file() {
            let fix = "a model directory needs the tokenizer.json that was published with its weights".to_owned();
            return Err(Error::Missing { path: path.to_owned(), fix });
        }
        let json = std::fs::read(path).map_err(Error::io(path))?;
        Self::from_json(&json).map_err(|reason| Error::malformed(path, reason))
    }

    /// Parses the content of a `tokenizer.json`; the error is the reason.
    ///
    /// # Errors
    /// It is not a tokenizer, or its tokens have no exact bytes.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let with_specials = tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        let mut plain = with_specials.clone();
        plain.set_encode_special_tokens(true);
        let mut specials: Vec<(String, u32)> = with_specials
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (token.content, id))
            .collect();
        specials.sort_by_key(|(_, id)| *id);
        let text_of = |token| match token {
            TokenBytes::Text(bytes) => bytes,
            TokenBytes::Special(_) => Vec::new(),
        };
        let bytes = token_bytes(&with_specials, json)?.into_iter().map(text_of).collect();
        Ok(Self {
            with_specials: Arc::new(with_specials),
            plain: Arc::new(plain),
            bytes: Arc::new(bytes),
            specials: Arc::new(specials),
            json: Arc::new(json.to_vec()),
        })
    }

    /// Writes `tokenizer.json` into a directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join("tokenizer.json");
        std::fs::write(&path, self.json.as_slice()).map_err(Error::io(&path))
    }

    /// Encodes a text in which special tokens are recognised (a rendered template).
    ///
    /// # Errors
    /// The text has characters outside the tokenizer's alphabet.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.with_specials, text)
    }

    /// Encodes a text as plain text: `<|end|>` in it is a sequence of characters, not the end token.
    ///
    /// # Errors
    /// The text has characters outside the tokenizer's alphabet.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.plain, text)
    }

    /// Decodes tokens to text, with every byte kept; special tokens give no text, and broken UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.token_bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the bytes of one token; empty for special and unknown tokens.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns the number of tokens, including special ones.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the id of a token by its name in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.with_specials.token_to_id(token)
    }

    /// Returns the special tokens and their ids, in id order.
    pub fn specials(&self) -> &[(String, u32)] {
        &self.specials
    }

    /// Returns the hash of `tokenizer.json`, 16 hex digits.
    pub fn hash(&self) -> String {
        hash16(&self.json)
    }

    /// Builds the tokenizer in the form that llguidance needs, with this end token.
    pub(crate) fn environment(&self, end: u32) -> Result<TokenEnvironment, String> {
        TokenEnvironment::new(&self.json, end)
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| Error::Encode { text: text.chars().take(80).collect(), reason: error.to_string() })?;
    Ok(encoding.get_ids().to_vec())
}

/// Trains a byte-level BPE tokenizer of at most `vocab_size` tokens on a corpus; `specials` come first, in order.
///
/// Digits are single tokens and words include their leading space, so that an id or a value has the same tokens at every position, which
/// helps the seed model to learn to copy.
///
/// # Errors
/// `vocab_size` is too small for the 256 bytes and the special tokens.
pub fn train_bpe<'a>(corpus: impl Iterator<Item = &'a str> + Send, vocab_size: usize, specials: &[&str]) -> Result<Tokenizer> {
    let train = |error: Box<dyn std::error::Error + Send + Sync>| Error::Train(error.to_string());
    let alphabet = ByteLevel::alphabet();
    if vocab_size < alphabet.len() + specials.len() {
        let least = alphabet.len() + specials.len();
        return Err(Error::Train(format!("{vocab_size} tokens are too few; the bytes and special tokens alone are {least}")));
    }
    let split = Split::new(SplitPattern::Regex(SPLIT.into()), SplitDelimiterBehavior::Isolated, false).map_err(train)?;
    let byte_level = ByteLevel::new(false, true, false);
    let mut tokenizer = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, tokenizers::PostProcessorWrapper, _>::default()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![split.into(), byte_level.into()]))))
        .with_post_processor(None)
        .with_decoder(Some(byte_level))
        .build()
        .map_err(train)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(specials.iter().map(|token| AddedToken::from(*token, true)).collect())
        .build();
    let json = tokenizer.train(&mut trainer, corpus).and_then(|trained| trained.to_string(true)).map_err(train)?;
    Tokenizer::from_json(json.as_bytes()).map_err(Error::Train)
}
