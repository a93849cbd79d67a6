//! The exact bytes of each token of a tokenizer.
//!
//! Two families of tokenizers keep them: byte-level ones, which write each byte as one printable character (GPT-2), and those with byte
//! fallback, which write single bytes as `<0xNN>` (SentencePiece).

use std::collections::HashMap;

use serde_json::Value;

/// The text of a token, or the name of a special token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenBytes {
    /// These bytes of text; none for an id without a token.
    Text(Vec<u8>),
    /// No text: a special token of this name.
    Special(String),
}

/// How the names of tokens encode bytes.
enum Encoding {
    /// Each character encodes one byte.
    ByteLevel(HashMap<char, u8>),
    /// Names are text with this character for the space; `<0xNN>` is a single byte.
    ByteFallback { space: char },
}

/// Returns the bytes of each token, in the order of the ids. `json` is the `tokenizer.json`. Added tokens of the form `<…>` count as
/// special.
///
/// # Errors
/// The tokenizer is neither byte-level nor has byte fallback, so that its tokens have no exact bytes.
pub(crate) fn token_bytes(tokenizer: &tokenizers::Tokenizer, json: &[u8]) -> Result<Vec<TokenBytes>, String> {
    let file: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let encoding = encoding(&file["decoder"]).ok_or_else(|| format!("can't determine decoder type: {}", file["decoder"]))?;
    let added = tokenizer.get_added_tokens_decoder();
    let count = u32::try_from(tokenizer.get_vocab_size(true)).map_err(|error| error.to_string())?;
    let bytes_of = |id: u32| {
        let Some(name) = tokenizer.id_to_token(id) else { return Ok(TokenBytes::Text(Vec::new())) };
        match added.get(&id) {
            Some(token) if token.special || (token.content.starts_with('<') && token.content.ends_with('>')) => {
                Ok(TokenBytes::Special(token.content.clone()))
            }
            // An added token may contain characters that encode no byte; its content is then taken as plain text.
            Some(token) => Ok(TokenBytes::Text(encoding.bytes(&name)?.unwrap_or_else(|| token.content.clone().into_bytes()))),
            None => Ok(TokenBytes::Text(encoding.bytes(&name)?.unwrap_or_default())),
        }
    };
    (0..count).map(bytes_of).collect()
}

impl Encoding {
    /// Returns the bytes that a token's name encodes; `None` if a character encodes no byte.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::ByteLevel(map) => Ok(name.chars().map(|character| map.get(&character).copied()).collect()),
            Self::ByteFallback { space } => match name.strip_prefix("<0x") {
                None => Ok(Some(name.replace(*space, " ").into_bytes())),
                Some(rest) => {
                    let byte = rest.strip_suffix('>').filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    byte.map(|byte| Some(vec![byte])).ok_or_else(|| format!("the token {name:?} is no byte"))
                }
            },
        }
    }
}

/// Reads the encoding from the decoder of a `tokenizer.json`; `None` if the decoder is of neither family.
fn encoding(decoder: &Value) -> Option<Encoding> {
    let (mut level, mut fallback, mut space) = (false, false, ' ');
    let mut next = vec![decoder];
    while let Some(decoder) = next.pop() {
        match decoder["type"].as_str() {
            Some("ByteLevel") => level = true,
            Some("ByteFallback") => fallback = true,
            Some("Replace") if decoder["content"] == " " => {
                let mut pattern = decoder["pattern"]["String"].as_str().unwrap_or_default().chars();
                if let (Some(character), None) = (pattern.next(), pattern.next()) {
                    space = character;
                }
            }
            Some("Sequence") => next.extend(decoder["decoders"].as_array().into_iter().flatten().rev()),
            _ => {}
        }
    }
    match (fallback, level) {
        (true, _) => Some(Encoding::ByteFallback { space }),
        (false, true) => Some(Encoding::ByteLevel(byte_characters())),
        (false, false) => None,
    }
}

/// Returns the characters as which GPT-2's tokenizer writes bytes, with their bytes: printable bytes are written as themselves, the others
/// from U+0100 on in their order.
fn byte_characters() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=u8::MAX).filter(|byte| !printable(byte)).zip('\u{100}'..).map(|(byte, character)| (character, byte));
    (0..=u8::MAX).filter(printable).map(|byte| (char::from(byte), byte)).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Checks a tokenizer with these tokens in the order of their ids, an added one behind them, and this decoder; a special token is
    /// expected as an empty text.
    fn check(decoder: &Value, tokens: &[&str], added: &Value, expected: &[&[u8]]) {
        let vocab: HashMap<&str, usize> = tokens.iter().zip(0..).map(|(token, id)| (*token, id)).collect();
        let file = json!({ "version": "1.0", "added_tokens": added, "decoder": decoder,
            "model": { "type": "BPE", "vocab": vocab, "merges": [] } });
        let json = serde_json::to_vec(&file).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let found = token_bytes(&tokenizer, &json).unwrap();
        let text = |token: &TokenBytes| match token {
            TokenBytes::Text(bytes) => bytes.clone(),
            TokenBytes::Special(name) => {
                assert_eq!(name, added[0]["content"].as_str().unwrap());
                Vec::new()
            }
        };
        assert_eq!(found.iter().map(text).collect::<Vec<_>>(), expected);
    }

    fn added(id: usize, content: &str, special: bool) -> Value {
        json!([{ "id": id, "content": content, "special": special,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false }])
    }

    #[test]
    fn byte_level_names_stand_for_bytes() {
        let decoder = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
        let tokens = ["a", "Ġb", "Ā", "ÿ", "ł"];
        let bytes: [&[u8]; 6] = [b"a", b" b", b"\0", &[0xFF], &[0xA0], b""];
        check(&decoder, &tokens, &added(5, "<|end|>", false), &bytes);
        let bytes: [&[u8]; 6] = [b"a", b" b", b"\0", &[0xFF], &[0xA0], "two words".as_bytes()];
        check(&decoder, &tokens, &added(5, "two words", false), &bytes);
        check(&decoder, &["a"], &added(1, "plain", true), &[b"a", b""]);
    }

    #[test]
    fn byte_fallback_names_are_text_and_single_bytes() {
        let decoders =
            json!([{ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "ByteFallback" }, { "type": "Fuse" }]);
        let decoder = json!({ "type": "Sequence", "decoders": decoders });
        let bytes: [&[u8]; 4] = [b" the", &[0x0A], "é".as_bytes(), b""];
        check(&decoder, &["▁the", "<0x0A>", "é"], &added(3, "<s>", true), &bytes);
    }

    #[test]
    fn the_last_replacement_by_a_space_counts() {
        let replace = |pattern: &str| json!({ "type": "Replace", "pattern": { "String": pattern }, "content": " " });
        let decoder = json!({ "type": "Sequence", "decoders": [replace("x"), replace("▁"), { "type": "ByteFallback" }] });
        check(&decoder, &["▁the", "x"], &added(2, "<s>", true), &[b" the", b"x", b""]);
    }

    #[test]
    fn a_tokenizer_without_exact_bytes_is_refused() {
        let json = serde_json::to_vec(
            &json!({ "version": "1.0", "added_tokens": [], "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
            "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] } }),
        )
        .unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        assert!(token_bytes(&tokenizer, &json).unwrap_err().contains("WordPiece"));
    }
}
