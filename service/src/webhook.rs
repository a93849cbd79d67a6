//! Webhooks: the request that is sent, its signature and the key, and the trait by which it is sent.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;
use url::Url;

use crate::error::{Error, Result};

/// Name of the header with the time of sending, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "Milepost-Timestamp";
/// Name of the header with `v1=` and the HMAC-SHA256, in hex, of the timestamp, a full stop and the body.
pub const SIGNATURE_HEADER: &str = "Milepost-Signature";

/// A webhook request: a POST with a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Unique id, the same in each attempt; it is also in the body, so that a receiver can recognise repetitions.
    pub id: String,
    /// The receiver's address.
    pub url: Url,
    /// Headers, `Content-Type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The body that the signature covers.
    pub body: String,
}

/// Sends webhooks; the daemon's implementation does so over HTTP within its egress rules.
#[async_trait]
pub trait WebhookSender: Send + Sync + 'static {
    /// Sends one request without following redirects and returns the status code of the response.
    ///
    /// # Errors
    /// The request got no response; the text says why.
    async fn send(&self, request: &WebhookRequest) -> Result<u16, String>;
}

/// Returns the signature of a body: `v1=` and hex digits.
pub fn signature(key: &[u8], timestamp: i64, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{timestamp}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold("v1=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Reads the signing key from a file; at the first start the file is created with a random key, readable by its owner only.
pub(crate) fn signing_key(path: &Path) -> Result<Vec<u8>> {
    let fail = |error: std::io::Error| Error::Store {
        path: path.display().to_string(),
        reason: format!("{error}; it holds the key that webhooks are signed with, and is made anew where it is missing"),
    };
    if let Ok(text) = std::fs::read_to_string(path) {
        return match text.trim() {
            "" => Err(fail(std::io::Error::other("the file is empty"))),
            text => Ok(text.as_bytes().to_vec()),
        };
    }
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let text = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let new = path.with_extension("new");
    options.open(&new).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())).map_err(fail)?;
    std::fs::rename(&new, path).map_err(fail)?;
    Ok(text.into_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The expected value is the output of `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        assert_eq!(signature(b"key", 1_700_000_000, "{\"a\":1}"), "v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03");
        assert_ne!(signature(b"key", 1_700_000_001, "{\"a\":1}"), signature(b"key", 1_700_000_000, "{\"a\":1}"));
    }

    #[test]
    fn the_key_is_kept_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webhook.key");
        let made = signing_key(&path).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(signing_key(&path).unwrap(), made);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
    }
}
