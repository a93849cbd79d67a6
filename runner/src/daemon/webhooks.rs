//! Sends webhooks over HTTP, behind an egress proxy.

use std::time::Duration;

use async_trait::async_trait;
use milepost_runtime::{Error, Result};
use milepost_service::{WebhookRequest, WebhookSender};
use milepost_tools::egress::{EgressProxy, EgressRules};

/// Sends webhooks to the configured hosts only: the proxy refuses all others, by name and by address.
pub struct HttpWebhookSender {
    client: reqwest::Client,
    _egress: EgressProxy,
}

impl HttpWebhookSender {
    /// Creates a sender for these hosts.
    ///
    /// # Errors
    /// A host rule cannot be parsed, no port can be opened, or the HTTP client cannot be created.
    pub async fn new(hosts: &[String], timeout: Duration) -> Result<Self> {
        let egress = EgressProxy::start(EgressRules::parse(hosts)?).await?;
        let failed = |error: reqwest::Error| Error::Environment(format!("the http client of webhooks does not start: {error}"));
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("milepost/", env!("CARGO_PKG_VERSION")))
            .proxy(reqwest::Proxy::all(format!("http://{}", egress.address())).map_err(failed)?)
            .build()
            .map_err(failed)?;
        Ok(Self { client, _egress: egress })
    }
}

#[async_trait]
impl WebhookSender for HttpWebhookSender {
    async fn send(&self, webhook: &WebhookRequest) -> std::result::Result<u16, String> {
        let mut request = self.client.post(webhook.url.clone()).body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(*name, value);
        }
        // The address is not logged, because it may hold a secret of the receiver.
        let sent = request.send().await.map_err(|error| error.without_url().to_string())?;
        Ok(sent.status().as_u16())
    }
}
