//! What comes in: bodies held to the very schema that the API's document publishes, paths and queries.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use jsonschema::{PatternOptions, Validator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::auth::too_large;
use super::problem::Problem;

/// Most places of a body that an error names.
const MOST_ERRORS: usize = 3;

/// Validators of all schemas in the API's document.
static SCHEMAS: LazyLock<HashMap<String, Validator>> = LazyLock::new(|| {
    let document = serde_json::to_value(super::router::document()).unwrap_or_default();
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
    names.filter_map(build).collect()
});

/// A JSON body that fits its published schema.
pub struct Payload<T>(pub T);

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for Payload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = body(request, app).await?;
        read(&bytes).map(Self)
    }
}

/// Like [`Payload`], where no body and `null` stand for an empty object.
pub struct Optional<T>(pub T);

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = body(request, app).await?;
        let none = matches!(bytes.trim_ascii(), b"" | b"null");
        read(if none { b"{}" } else { &bytes }).map(Self)
    }
}

/// Reads the body within its limits of size and time.
async fn body(request: Request, app: &App) -> Result<Bytes, Problem> {
    let (limit, seconds) = (app.config.serve.body_limit, app.config.serve.read_seconds);
    let read = axum::body::to_bytes(request.into_body(), limit);
    match tokio::time::timeout(Duration::from_secs(seconds), read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large(limit)),
        Ok(Err(error)) => Err(Problem::unreadable(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} s"))),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Reads a body: JSON, then the schema, then the type.
fn read<T: DeserializeOwned + ToSchema>(bytes: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| Problem::unreadable(format!("the body is no JSON: {error}")))?;
    let name = T::name();
    // Without its schema nothing comes in: types alone do not bound what a body holds.
    let validator = SCHEMAS.get(name.as_ref()).ok_or_else(|| Problem::internal(&format!("there is no schema {name}")))?;
    let errors: Vec<String> = validator.iter_errors(&value).take(MOST_ERRORS).map(|error| told(&error)).collect();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors.join("; ")));
    }
    serde_json::from_value(value).map_err(|error| Problem::invalid(error.to_string()))
}

fn told(error: &jsonschema::ValidationError<'_>) -> String {
    let text: String = error.to_string().chars().take(300).collect();
    match error.instance_path().as_str() {
        "" => text,
        path => format!("{path}: {text}"),
    }
}

/// A path's parameters.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::unreadable(format!("the path cannot be read: {error}"))),
        }
    }
}

/// A query's parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::unreadable(format!("the query cannot be read: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_of_the_document_holds_its_bodies() {
        let document = serde_json::to_value(super::super::router::document()).unwrap();
        let names: Vec<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
        let missing: Vec<_> = names.iter().filter(|name| !SCHEMAS.contains_key(name.as_str())).collect();
        assert!(missing.is_empty() && names.len() > 20, "{missing:?}");
    }
}
