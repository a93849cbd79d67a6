//! How a plain environment sends requests to a site: a trait, and its implementation over the network.

use async_trait::async_trait;
use milepost_runtime::{Error, Result};
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use url::Url;

/// The request methods of links and forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET, which loads a page.
    Get,
    /// POST, which submits a form.
    Post,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The absolute address, without fragment.
    pub url: Url,
    /// The body of a form submission (`application/x-www-form-urlencoded`).
    pub body: Option<String>,
    /// The `cookie` header; `None` where there are no cookies for the address.
    pub cookies: Option<String>,
}

/// A response; a redirect is a response too.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `location` header.
    pub location: Option<String>,
    /// All `set-cookie` headers.
    pub set_cookies: Vec<String>,
    /// The `content-type` header; a response without one is HTML.
    pub content_type: Option<String>,
    /// The body.
    pub body: String,
}

/// Sends requests to a site.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request without following redirects.
    ///
    /// # Errors
    /// The site cannot be reached.
    async fn request(&self, request: Request) -> Result<Response>;
}

/// Sends requests over the network.
pub struct HttpTransport {
    client: reqwest::Client,
}

impl HttpTransport {
    /// Makes a client with its own connection pool, a time limit of 30 seconds per request, and no proxy from the environment's variables.
    ///
    /// # Errors
    /// The TLS library cannot be started.
    pub fn new() -> Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(30))
            .no_proxy()
            .build()
            .map_err(|error| Error::Environment(format!("the HTTP client cannot start: {error}")))?;
        Ok(Self { client })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn request(&self, request: Request) -> Result<Response> {
        let failed = |error: reqwest::Error| Error::Environment(format!("{} cannot be read: {error}", request.url));
        let mut builder = match request.method {
            Method::Get => self.client.get(request.url.clone()),
            Method::Post => self.client.post(request.url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded"),
        };
        if let Some(cookies) = &request.cookies {
            builder = builder.header(COOKIE, cookies);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let response = builder.send().await.map_err(failed)?;
        let header = |name| {
            response.headers().get(name).map(|value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (status, location, content_type) = (response.status().as_u16(), header(LOCATION), header(CONTENT_TYPE));
        let cookies = response.headers().get_all(SET_COOKIE).iter();
        let set_cookies = cookies.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let body = response.text().await.map_err(failed)?;
        Ok(Response { status, location, set_cookies, content_type, body })
    }
}
