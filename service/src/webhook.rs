//! Webhooks: a durable outbox, signed, tried again with growing waits.

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use url::Url;

/// Header with the time of sending, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "Milepost-Timestamp";
/// Header with `v1=` and the HMAC-SHA256, in hex, of the timestamp, a full stop and the body.
pub const SIGNATURE_HEADER: &str = "Milepost-Signature";

/// A message to deliver: POST of a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Unique id, the same at each try: also in the body, so that a receiver can tell repetitions.
    pub id: String,
    /// Where to.
    pub url: Url,
    /// Headers, `Content-Type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The body, as signed.
    pub body: String,
}

/// Delivers messages; the binary does it over HTTP within the egress rules.
#[async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// Delivers one message without following redirects; returns the receiver's status.
    ///
    /// # Errors
    /// Why it could not be delivered, in words.
    async fn deliver(&self, delivery: &Delivery) -> Result<u16, String>;
}

/// The signature of a body: `v1=` and hex digits.
pub fn signature(key: &[u8], timestamp: i64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{timestamp}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold("v1=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
