//! The output that a caller's schema asks for, read out of the answer: what does not fit is said, never passed over.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Most of what a schema's errors say that is told.
const MOST: usize = 500;

/// A wanted output.
pub(super) struct Wanted(Validator);

impl Wanted {
    /// Reads a schema.
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        let built = jsonschema::options().with_pattern_options(PatternOptions::regex()).build(schema);
        built.map(Self).map_err(|error| format!("`output_schema` is no JSON schema: {error}"))
    }

    /// Reads the output out of an answer: the whole answer as JSON, JSON within it, or the answer as a text.
    pub(super) fn read(&self, answer: &str) -> Result<Value, String> {
        let answer = answer.trim();
        let whole = serde_json::from_str::<Value>(answer).ok();
        let inside = || answer.char_indices().filter(|(_, c)| matches!(c, '{' | '[')).filter_map(|(at, _)| beginning(&answer[at..]));
        let text = Value::String(answer.to_owned());
        if let Some(fitting) = whole.iter().cloned().chain(inside()).chain([text.clone()]).find(|value| self.0.is_valid(value)) {
            return Ok(fitting);
        }
        let nearest = whole.or_else(|| inside().next());
        let reason = match &nearest {
            None => "it holds no JSON".to_owned(),
            Some(value) => self.0.iter_errors(value).map(|error| error.to_string()).collect::<Vec<_>>().join("; "),
        };
        Err(reason.chars().take(MOST).collect())
    }
}

/// The JSON value that a text begins with.
fn beginning(text: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_is_read_or_its_misfit_told() {
        let object = json!({ "type": "object", "properties": { "price": { "type": "number" } }, "required": ["price"], "additionalProperties": false });
        let check = |schema: &Value, answer: &str| Wanted::new(schema).unwrap().read(answer);
        assert_eq!(check(&object, r#"{"price": 12.5}"#), Ok(json!({ "price": 12.5 })));
        assert_eq!(check(&object, "Here it is:\n```json\n{\"price\": 3}\n```\nDone."), Ok(json!({ "price": 3 })));
        assert_eq!(check(&object, "[1] and then {\"price\": 4}"), Ok(json!({ "price": 4 })));
        assert_eq!(check(&json!({ "type": "string" }), "The red one"), Ok(json!("The red one")));
        assert_eq!(check(&json!({ "type": "integer" }), " 42 "), Ok(json!(42)));
        assert!(check(&object, "12.50 dollars").unwrap_err().contains("no JSON"));
        assert!(check(&object, r#"{"price": "12"}"#).unwrap_err().contains("number"));
        assert!(Wanted::new(&json!({ "type": 7 })).is_err());
        assert!(Wanted::new(&json!({ "$ref": "http://127.0.0.1:1/x.json" })).is_err(), "nothing is fetched for a schema");
    }
}
