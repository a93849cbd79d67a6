//! A transport for the plain reader that calls the site of a suite task in this process, without sockets.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::header;
use milepost_runtime::action::ToolForm;
use milepost_runtime::{Error, Result, Task, Tool};
use milepost_tools::fetch;
use milepost_tools::plain::{Method, Request, Response, Transport};
use tower::ServiceExt;

/// A transport that calls an axum router directly.
pub struct InProcess(pub axum::Router);

#[async_trait]
impl Transport for InProcess {
    async fn request(&self, request: Request) -> Result<Response> {
        let url = request.url;
        let fail = |error: &dyn std::fmt::Display| Error::Environment(format!("{url}: {error}"));
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let method = match request.method {
            Method::Get => axum::http::Method::GET,
            Method::Post => axum::http::Method::POST,
        };
        let mut builder = axum::http::Request::builder().method(method).uri(target).header(header::HOST, url.authority());
        if let Some(cookies) = request.cookies {
            builder = builder.header(header::COOKIE, cookies);
        }
        if request.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = builder.body(Body::from(request.body.unwrap_or_default())).map_err(|error| fail(&error))?;
        let response = self.0.clone().oneshot(request).await.map_err(|error| fail(&error))?;
        let text = |value: &axum::http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let (headers, status) = (response.headers(), response.status().as_u16());
        let (location, content_type) = (headers.get(header::LOCATION).and_then(text), headers.get(header::CONTENT_TYPE).and_then(text));
        let set_cookies = headers.get_all(header::SET_COOKIE).iter().filter_map(text).collect();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000_000).await.map_err(|error| fail(&error))?;
        Ok(Response { status, location, set_cookies, content_type, body: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

/// The tool `fetch` on the same router.
pub struct InProcessFetch(pub Arc<InProcess>);

#[async_trait]
impl Tool for InProcessFetch {
    fn form(&self) -> ToolForm {
        fetch::form()
    }

    fn changes(&self) -> bool {
        false
    }

    async fn call(&self, arguments: &serde_json::Value, task: &Task) -> Result<String> {
        let target = arguments.get("url").and_then(|url| url.as_str()).unwrap_or_default();
        let url = task.start_url.join(target).map_err(|error| Error::BadInput(format!("{target:?} is no address: {error}")))?;
        if !task.capability.allows_url(&url) {
            return Err(Error::BadInput(format!("{url} is outside the hosts this task may reach ({})", task.capability.hosts.join(", "))));
        }
        let response = self.0.request(Request { method: Method::Get, url: url.clone(), body: None, cookies: None }).await?;
        let json = response.content_type.is_some_and(|kind| kind.contains("json"));
        let text = fetch::readable(json, response.body.as_bytes());
        match response.status {
            200..300 => Ok(text),
            status => Err(Error::BadInput(format!("{url} answered {status}: {}", text.chars().take(200).collect::<String>()))),
        }
    }
}
