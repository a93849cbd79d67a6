//! Extractors for bodies that fit their schema in the API's document, and for parameters of paths and queries.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::http::errors::Problem;
use crate::http::state::App;

/// A JSON body that fits its schema in the API's document.
pub struct Payload<T>(pub T);

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for Payload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = read_body(request, app).await?;
        app.schemas.read(&bytes).map(Self)
    }
}

/// Like [`Payload`], but an empty body and `null` count as an empty object.
pub struct OptionalPayload<T>(pub T);

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for OptionalPayload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = read_body(request, app).await?;
        let empty = matches!(bytes.trim_ascii(), b"" | b"null");
        app.schemas.read(if empty { b"{}" } else { &bytes }).map(Self)
    }
}

/// Reads the body, which may have at most `serve.body_limit` bytes and must arrive within `serve.read_seconds`.
pub(crate) async fn read_body(request: Request, app: &App) -> Result<Bytes, Problem> {
    let (limit, seconds) = (app.settings.serve.body_limit, app.settings.serve.read_seconds);
    let read = axum::body::to_bytes(request.into_body(), limit);
    match tokio::time::timeout(Duration::from_secs(seconds), read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(Problem::too_large(limit)),
        Ok(Err(error)) => Err(Problem::unreadable(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} s"))),
    }
}

/// Returns true if the body was longer than the limit that it was read with: one of the error's causes says so in its text.
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

/// The parameters of a path.
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

/// The parameters of a query.
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
