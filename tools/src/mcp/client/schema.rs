//! Reduces a tool's JSON schema to the part that the grammar of a call can enforce, with a maximum size for everything.

use serde_json::{Map, Value, json};

/// The maximum length of a text in an argument, in characters.
const MAX_TEXT: u64 = 200;
/// The maximum number of items of a list in an argument.
const MAX_ITEMS: u64 = 16;
/// The keywords that are kept as they are. All others are left for the server to check.
const KEPT: [&str; 11] =
    ["type", "enum", "const", "required", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "$ref"];

/// Returns the enforceable part of a schema, with bounds. Unreduced, one keyword that the grammar compiler does not know, in one tool's
/// schema, would leave the model without a grammar.
pub(super) fn bounded(schema: &Value) -> Value {
    let Value::Object(given) = schema else { return schema.clone() };
    let mut kept: Map<String, Value> =
        given.iter().filter(|(key, _)| KEPT.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect();
    for key in ["properties", "$defs", "definitions"] {
        if let Some(Value::Object(named)) = given.get(key) {
            kept.insert(key.into(), named.iter().map(|(name, schema)| (name.clone(), bounded(schema))).collect());
        }
    }
    for (key, kept_as) in [("anyOf", "anyOf"), ("oneOf", "anyOf")] {
        if let Some(Value::Array(choices)) = given.get(key) {
            kept.insert(kept_as.into(), choices.iter().map(bounded).collect());
        }
    }
    if let Some(items) = given.get("items").filter(|items| items.is_object()) {
        kept.insert("items".into(), bounded(items));
    }
    add_bounds(&mut kept);
    Value::Object(kept)
}

/// Adds the bounds that an object's own keywords lack.
fn add_bounds(schema: &mut Map<String, Value>) {
    let has_type = |schema: &Map<String, Value>, kind: &str| match schema.get("type") {
        Some(Value::String(word)) => word == kind,
        Some(Value::Array(words)) => words.iter().any(|word| word == kind),
        _ => false,
    };
    if has_type(schema, "string") && !schema.contains_key("enum") && !schema.contains_key("const") {
        schema.entry("maxLength").or_insert(json!(MAX_TEXT));
    }
    if has_type(schema, "array") {
        schema.entry("maxItems").or_insert(json!(MAX_ITEMS));
        schema.entry("items").or_insert(json!({ "type": "string", "maxLength": MAX_TEXT }));
    }
    if has_type(schema, "object") || schema.contains_key("properties") {
        schema.insert("type".into(), "object".into());
        schema.entry("properties").or_insert(json!({}));
        schema.insert("additionalProperties".into(), false.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_keeps_what_a_grammar_holds_and_gets_its_bounds() {
        let check = |given: Value, expected: Value| assert_eq!(bounded(&given), expected);
        check(
            json!({ "$schema": "x", "title": "T", "type": "object", "required": ["who"], "properties": {
                "who": { "type": "string", "format": "email", "description": "…" }, "n": { "type": "integer", "minimum": 1, "default": 3 } } }),
            json!({ "type": "object", "required": ["who"], "additionalProperties": false, "properties": {
                "who": { "type": "string", "maxLength": 200 }, "n": { "type": "integer", "minimum": 1 } } }),
        );
        check(
            json!({ "anyOf": [{ "type": "string", "maxLength": 5 }, { "type": "null" }], "default": null }),
            json!({ "anyOf": [{ "type": "string", "maxLength": 5 }, { "type": "null" }] }),
        );
        check(
            json!({ "type": "array", "uniqueItems": true, "items": { "enum": ["a"], "type": "string" } }),
            json!({ "type": "array", "maxItems": 16, "items": { "enum": ["a"], "type": "string" } }),
        );
        check(json!({ "type": "object" }), json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    }
}
