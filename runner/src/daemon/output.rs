//! Extracts the structured output that a caller's JSON schema describes from the agent's answer.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// The maximum number of characters of validation errors that are reported.
const ERROR_CHARACTERS: usize = 500;

/// The JSON schema of a task's output.
pub(super) struct OutputSchema(Validator);

impl OutputSchema {
    /// Compiles a schema. References to other documents are not fetched.
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        let built = jsonschema::options().with_pattern_options(PatternOptions::regex()).build(schema);
        built.map(Self).map_err(|error| format!("`output_schema` is no JSON schema: {error}"))
    }

    /// Returns the first value that fits the schema, among the whole answer as JSON, each JSON value within it, and the answer as a string.
    pub(super) fn read(&self, answer: &str) -> Result<Value, String> {
        let answer = answer.trim();
        let whole = serde_json::from_str::<Value>(answer).ok();
        let inside = || answer.char_indices().filter(|(_, c)| matches!(c, '{' | '[')).filter_map(|(at, _)| leading_value(&answer[at..]));
        let text = Value::String(answer.to_owned());
        if let Some(fitting) = whole.iter().cloned().chain(inside()).chain([text.clone()]).find(|value| self.0.is_valid(value)) {
            return Ok(fitting);
        }
        let nearest = whole.or_else(|| inside().next());
        let reason = match &nearest {
            None => "it holds no JSON".to_owned(),
            Some(value) => self.0.iter_errors(value).map(|error| error.to_string()).collect::<Vec<_>>().join("; "),
        };
        Err(reason.chars().take(ERROR_CHARACTERS).collect())
    }
}

/// Returns the JSON value that a text begins with.
fn leading_value(text: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_is_extracted_or_the_reason_is_given() {
        let object = json!({ "type": "object", "properties": { "price": { "type": "number" } }, "required": ["price"], "additionalProperties": false });
        let check = |schema: &Value, answer: &str| OutputSchema::new(schema).unwrap().read(answer);
        assert_eq!(check(&object, r#"{"price": 12.5}"#), Ok(json!({ "price": 12.5 })));
        assert_eq!(check(&object, "Here it is:\n```json\n{\"price\": 3}\n```\nDone."), Ok(json!({ "price": 3 })));
        assert_eq!(check(&object, "[1] and then {\"price\": 4}"), Ok(json!({ "price": 4 })));
        assert_eq!(check(&json!({ "type": "string" }), "The red one"), Ok(json!("The red one")));
        assert_eq!(check(&json!({ "type": "integer" }), " 42 "), Ok(json!(42)));
        assert!(check(&object, "12.50 dollars").unwrap_err().contains("no JSON"));
        assert!(check(&object, r#"{"price": "12"}"#).unwrap_err().contains("number"));
        assert!(OutputSchema::new(&json!({ "type": 7 })).is_err());
        assert!(OutputSchema::new(&json!({ "$ref": "http://127.0.0.1:1/x.json" })).is_err(), "nothing is fetched for a schema");
    }
}
