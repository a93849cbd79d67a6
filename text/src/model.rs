//! The tokenizer, chat template and end tokens of a model, as one value.

use std::path::{Path, PathBuf};

use milepost_runtime::Message;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::template::{ChatTemplate, read_json, token_text};
use crate::tokenizer::Tokenizer;

/// Tokenizer, chat template and end tokens of one model.
#[derive(Clone, Debug)]
pub struct TextModel {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: ChatTemplate,
    /// The tokens that end a turn. The first is the one that grammars allow and that training completions end with.
    pub eos_ids: Vec<u32>,
    dir: PathBuf,
}

impl TextModel {
    /// Creates a text model from its parts; errors name `origin` (a directory or a model's name).
    ///
    /// # Errors
    /// There is no end token, or the tokenizer does not have it.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate, eos_ids: Vec<u32>, origin: &Path) -> Result<Self> {
        match eos_ids.iter().find(|id| **id as usize >= tokenizer.vocab_size()) {
            Some(id) => Err(Error::malformed(
                &origin.join("tokenizer.json"),
                format!("the end token {id} is not in it ({} tokens); it belongs to another model", tokenizer.vocab_size()),
            )),
            None if eos_ids.is_empty() => Err(Error::malformed(
                &origin.join("generation_config.json"),
                "it names no `eos_token_id`; add the id of the token that ends a turn",
            )),
            None => Ok(Self { tokenizer, template, eos_ids, dir: origin.to_owned() }),
        }
    }

    /// Loads `tokenizer.json`, the chat template and the end tokens from a model directory.
    ///
    /// The first end token is the tokenizer configuration's `eos_token`; `generation_config.json` and `config.json` add theirs.
    ///
    /// # Errors
    /// A file is missing or broken, or there is no end token; the message names the file.
    pub fn load(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let fix = "give the path of a directory with config.json, tokenizer.json and *.safetensors".to_owned();
            return Err(Error::Missing { path: dir.to_owned(), fix });
        }
        let tokenizer = Tokenizer::load(&dir.join("tokenizer.json"))?;
        let template = ChatTemplate::load(dir)?;
        let mut eos_ids = Vec::new();
        let named = read_json(&dir.join("tokenizer_config.json"))?.and_then(|config| token_text(&config["eos_token"]));
        eos_ids.extend(named.and_then(|token| tokenizer.token_id(&token)));
        for name in ["generation_config.json", "config.json"] {
            let config = read_json(&dir.join(name))?.unwrap_or(Value::Null);
            let ids = match &config["eos_token_id"] {
                Value::Array(ids) => ids.clone(),
                id => vec![id.clone()],
            };
            for id in ids.iter().filter_map(Value::as_u64).map(|id| id as u32) {
                if !eos_ids.contains(&id) {
                    eos_ids.push(id);
                }
            }
        }
        Self::new(tokenizer, template, eos_ids, dir)
    }

    /// Checks that the tokenizer has at most as many tokens as the weights have rows (`vocab_size` of config.json).
    ///
    /// # Errors
    /// The tokenizer has more.
    pub fn check_vocab(&self, weights: usize) -> Result<()> {
        let tokenizer = self.tokenizer.vocab_size();
        if tokenizer > weights {
            return Err(Error::Vocabulary { dir: self.dir.clone(), tokenizer, weights });
        }
        Ok(())
    }

    /// Returns the token that ends a completion.
    pub fn end_id(&self) -> u32 {
        self.eos_ids[0]
    }

    /// Returns whether a token ends a turn.
    pub fn is_end(&self, id: u32) -> bool {
        self.eos_ids.contains(&id)
    }

    /// Encodes a chat as a prompt, with the model's turn opened.
    ///
    /// A message cannot contain the template's own tokens: where a page says `<|end|>`, the prompt says `< |end|>`.
    ///
    /// # Errors
    /// The template refuses the messages.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let messages: Vec<Message> =
            messages.iter().map(|message| Message { role: message.role, content: self.break_special_tokens(&message.content) }).collect();
        self.tokenizer.encode(&self.template.render(&messages, true)?)
    }

    /// Encodes a completion, with its end token.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode_plain(text)?;
        ids.push(self.end_id());
        Ok(ids)
    }

    /// Decodes a completion to text, with every byte kept and without special tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids)
    }

    /// Returns the length in bytes of the decoded text after each token.
    pub fn text_ends(&self, ids: &[u32]) -> Vec<usize> {
        ids.iter()
            .scan(0, |end, id| {
                *end += self.tokenizer.token_bytes(*id).len();
                Some(*end)
            })
            .collect()
    }

    /// Puts a space into each special token in a text, so that the tokenizer reads it as plain text.
    fn break_special_tokens(&self, content: &str) -> String {
        let mut out = content.to_owned();
        for (token, _) in self.tokenizer.specials().iter().filter(|(token, _)| token.len() > 1) {
            if out.contains(token.as_str()) {
                let first = token.chars().next().map_or(1, char::len_utf8);
                out = out.replace(token.as_str(), &format!("{} {}", &token[..first], &token[first..]));
            }
        }
        out
    }
}
