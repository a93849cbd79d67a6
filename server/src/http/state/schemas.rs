//! Validates request bodies against the schemas of the API's document.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Validator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::errors::Problem;

/// The maximum number of schema violations that an error lists.
const MAX_ERRORS: usize = 3;

/// The validators of all schemas in the API's document, by schema name.
pub struct Schemas(HashMap<String, Validator>);

impl Schemas {
    /// Compiles the schemas of an OpenAPI document.
    pub fn new(document: &Value) -> Self {
        let components = &document["components"];
        let names = components["schemas"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let build = |name: String| {
            let schema = json!({ "$ref": format!("#/components/schemas/{name}"), "components": components });
            match jsonschema::options().with_pattern_options(PatternOptions::regex()).build(&schema) {
                Ok(validator) => Some((name, validator)),
                Err(error) => {
                    tracing::error!(name, %error, "this schema of the API's document cannot be used");
                    None
                }
            }
        };
        Self(names.filter_map(build).collect())
    }

    /// Returns true if there is a schema with this name.
    #[cfg(test)]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Parses a body as JSON, checks it against the schema of `T`, and deserializes it.
    pub fn read<T: DeserializeOwned + ToSchema>(&self, bytes: &[u8]) -> Result<T, Problem> {
        let mut value: Value =
            serde_json::from_slice(bytes).map_err(|error| Problem::unreadable(format!("the body is no JSON: {error}")))?;
        let name = T::name();
        // Without a schema a body is refused, because a type alone does not limit sizes and values.
        let validator = self.0.get(name.as_ref()).ok_or_else(|| Problem::internal(&format!("there is no schema {name}")))?;
        let errors: Vec<String> = validator.iter_errors(&value).take(MAX_ERRORS).map(|error| describe(&error)).collect();
        if !errors.is_empty() {
            return Err(Problem::invalid(errors.join("; ")));
        }
        whole_floats_to_integers(&mut value);
        serde_json::from_value(value).map_err(|error| Problem::invalid(error.to_string()))
    }
}

/// Turns numbers such as 1.0 into integers: JSON Schema counts them as integers, but serde refuses to read them as a Rust integer.
fn whole_floats_to_integers(value: &mut Value) {
    /// 2^53: whole numbers below it are exact as `f64`.
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|x| number.is_f64() && x.fract() == 0.0 && x.abs() < EXACT_BELOW);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_floats_to_integers),
        Value::Object(members) => members.values_mut().for_each(whole_floats_to_integers),
        _ => {}
    }
}

/// Describes a violation in at most 300 characters, after the JSON pointer of its place in the body.
fn describe(error: &jsonschema::ValidationError<'_>) -> String {
    let text: String = error.to_string().chars().take(300).collect();
    match error.instance_path().as_str() {
        "" => text,
        path => format!("{path}: {text}"),
    }
}
