//! A tokenizer in the form that llguidance needs: the trie of its tokens' bytes, and the encoding of texts that a grammar forces.

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use serde_json::Value;

use crate::token_bytes::{TokenBytes, token_bytes};

/// A tokenizer for llguidance.
pub(crate) struct TokenEnvironment {
    trie: TokTrie,
    /// Encodes a piece of text from the middle of a completion, so it adds no space in front.
    pieces: tokenizers::Tokenizer,
}

impl TokenEnvironment {
    /// Builds the trie of the tokenizer in this `tokenizer.json`.
    ///
    /// # Errors
    /// It is not a tokenizer, or its tokens have no exact bytes.
    pub(crate) fn new(json: &[u8], end: u32) -> Result<Self, String> {
        let mut file: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        file["normalizer"] = without_prepended_space(&file["normalizer"]).unwrap_or_default();
        never_prepend(&mut file["pre_tokenizer"]);
        let pieces = serde_json::to_vec(&file).map_err(|error| error.to_string())?;
        let pieces = tokenizers::Tokenizer::from_bytes(pieces).map_err(|error| error.to_string())?;
        let tokens = token_bytes(&pieces, json)?;
        let count = u32::try_from(tokens.len()).map_err(|error| error.to_string())?;
        if end >= count {
            return Err(format!("the end token {end} is none of its {count} tokens"));
        }
        let mut info = TokRxInfo::new(count, end);
        for (id, token) in (0..).zip(&tokens) {
            match token {
                TokenBytes::Special(name) => name_special(&mut info, name, id),
                TokenBytes::Text(_) => {}
            }
        }
        let words: Vec<Vec<u8>> = tokens.into_iter().map(word).collect();
        Ok(Self { trie: TokTrie::from(&info, &words), pieces })
    }

    fn encode(&self, text: &str) -> Vec<TokenId> {
        // A text that the tokenizer cannot encode has no canonical tokens; the trie then takes the longest tokens that match.
        self.pieces.encode(text, false).map_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()), |encoding| encoding.get_ids().to_vec())
    }
}

/// Returns the bytes of a token in the form that the trie needs: a special token's name follows a marker byte.
fn word(token: TokenBytes) -> Vec<u8> {
    match token {
        TokenBytes::Text(bytes) => bytes,
        TokenBytes::Special(name) => [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat(),
    }
}

/// Records the special tokens that llguidance knows by name.
fn name_special(info: &mut TokRxInfo, name: &str, id: TokenId) {
    match name {
        "<|end|>" | "<|eot_id|>" | "<|im_end|>" => info.tok_end_of_turn = Some(id),
        "<unk>" | "<|unk|>" => info.tok_unk = Some(id),
        "<pad>" | "<|pad|>" => info.tok_pad = Some(id),
        _ => {}
    }
}

/// Returns a normalizer without the parts that prepend a space; `None` if nothing is left of it.
fn without_prepended_space(normalizer: &Value) -> Option<Value> {
    // The library also reads normalizers without `type`, so the fields decide.
    if normalizer.is_null() || normalizer["prepend"].is_string() {
        return None;
    }
    let mut kept = normalizer.clone();
    if let Some(parts) = kept.get_mut("normalizers").and_then(Value::as_array_mut) {
        *parts = parts.iter().filter_map(without_prepended_space).collect();
        if parts.is_empty() {
            return None;
        }
    }
    Some(kept)
}

/// Changes a pre-tokenizer so that it prepends no space.
fn never_prepend(pre_tokenizer: &mut Value) {
    match pre_tokenizer["type"].as_str() {
        Some("Metaspace") => {
            if let Some(fields) = pre_tokenizer.as_object_mut() {
                fields.remove("add_prefix_space");
                fields.insert("prepend_scheme".into(), "never".into());
            }
        }
        Some("Sequence") => pre_tokenizer["pretokenizers"].as_array_mut().into_iter().flatten().for_each(never_prepend),
        _ => {}
    }
}

impl TokenizerEnv for TokenEnvironment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.encode(text))
    }

    fn tokenize_bytes_special(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.trie.tokenize_with_special(text, |text| self.encode(text)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A SentencePiece-like tokenizer that prepends a space to each text by its normalizer and its pre-tokenizer.
    fn json() -> Vec<u8> {
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
        let decoders = json!([{ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "ByteFallback" }]);
        let normalizers =
            json!([{ "type": "Prepend", "prepend": "▁" }, { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }]);
        let added = json!([{ "id": 5, "content": "<|im_end|>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false }]);
        let file = json!({ "version": "1.0", "added_tokens": added,
            "normalizer": { "type": "Sequence", "normalizers": normalizers }, "pre_tokenizer": metaspace,
            "decoder": { "type": "Sequence", "decoders": decoders },
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "▁": 2, "ab": 3, "▁a": 4 }, "merges": [["a", "b"], ["▁", "a"]] } });
        serde_json::to_vec(&file).unwrap()
    }

    #[test]
    fn a_piece_of_text_gets_no_space_in_front() {
        let environment = TokenEnvironment::new(&json(), 5).unwrap();
        assert_eq!(environment.tokenize_bytes(b"ab"), [3]);
        assert_eq!(environment.tokenize_bytes(b" a"), [4]);
        assert_eq!(environment.tokenize_bytes_special(b"ab<|im_end|>"), [3, 5]);
        let trie = environment.tok_trie();
        assert_eq!((trie.token(2), trie.info().tok_eos, trie.info().tok_end_of_turn), (&b" "[..], 5, Some(5)));
    }

    #[test]
    fn only_the_part_that_prepends_a_space_is_dropped_with_and_without_a_type() {
        let replace = serde_json::json!({ "pattern": { "String": " " }, "content": "x" });
        let typed = serde_json::json!({ "type": "Replace", "pattern": { "String": " " }, "content": "x" });
        for (prepend, kept) in
            [(serde_json::json!({ "prepend": "x" }), replace), (serde_json::json!({ "type": "Prepend", "prepend": "x" }), typed)]
        {
            assert_eq!(without_prepended_space(&kept), Some(kept.clone()));
            assert_eq!(without_prepended_space(&prepend), None);
            let sequence = serde_json::json!({ "type": "Sequence", "normalizers": [prepend, kept] });
            let expected = serde_json::json!({ "type": "Sequence", "normalizers": [kept] });
            assert_eq!(without_prepended_space(&sequence), Some(expected));
            assert_eq!(without_prepended_space(&serde_json::json!({ "normalizers": [prepend] })), None);
        }
    }

    #[test]
    fn an_end_token_outside_the_vocabulary_is_refused() {
        assert!(TokenEnvironment::new(&json(), 6).err().unwrap().contains("6"));
    }
}
