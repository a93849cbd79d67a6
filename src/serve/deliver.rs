//! Webhooks over HTTP, within the egress rules.

use std::time::Duration;

use async_trait::async_trait;
use milepost_runtime::{Error, Result};
use milepost_service::{Deliver, Delivery};
use milepost_tools::egress::{EgressProxy, EgressRules};

/// Delivers to the configured hosts only: the proxy refuses all others, by name and by address.
pub(super) struct Post {
    client: reqwest::Client,
    _egress: EgressProxy,
}

impl Post {
    /// A postman for these hosts.
    pub(super) async fn new(hosts: &[String], timeout: Duration) -> Result<Self> {
        let egress = EgressProxy::start(EgressRules::parse(hosts)?).await?;
        let cannot = |error: reqwest::Error| Error::Environment(format!("the http client of webhooks does not start: {error}"));
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("milepost/", env!("CARGO_PKG_VERSION")))
            .proxy(reqwest::Proxy::all(format!("http://{}", egress.address())).map_err(cannot)?)
            .build()
            .map_err(cannot)?;
        Ok(Self { client, _egress: egress })
    }
}

#[async_trait]
impl Deliver for Post {
    async fn deliver(&self, delivery: &Delivery) -> std::result::Result<u16, String> {
        let mut request = self.client.post(delivery.url.clone()).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(*name, value);
        }
        // The address may hold a word of the receiver's: it is not logged.
        let sent = request.send().await.map_err(|error| error.without_url().to_string())?;
        Ok(sent.status().as_u16())
    }
}
