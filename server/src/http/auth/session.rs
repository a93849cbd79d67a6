//! Sessions by cookie. Cookie values are signed instead of stored: they survive a restart, and end when their token is revoked or replaced.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use rand::RngCore;
use serde::Serialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::caller::{Caller, Scope};
use super::tokens::{StoredToken, Tokens, to_hex};

/// The name of the session cookie.
pub const COOKIE: &str = "milepost_session";
/// The header with the CSRF token, which a request by cookie must carry if it may change something.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// A session: the signed-in caller and the CSRF token for its changes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Session {
    /// The name of the token that the caller signed in with.
    pub name: String,
    /// What the token permits.
    pub scope: Scope,
    /// The CSRF token that every changing request must carry in the header `X-CSRF-Token`.
    pub csrf: String,
    /// When the session expires.
    pub expires_at: DateTime<Utc>,
}

/// Signs callers in and out and recognises their cookies. A cookie value is `name.expiry.nonce.mac`; the MAC (HMAC-SHA256) is keyed with the
/// token's hash.
#[derive(Default)]
pub struct Sessions {
    /// The sessions that signed out before they expired: expiry (Unix time in seconds) and nonce.
    signed_out: Mutex<BTreeSet<(i64, String)>>,
}

impl Sessions {
    /// Makes a session of `hours` for a token. Returns the cookie value and the session; `None` for a token that is unknown or expired.
    pub fn sign_in(&self, tokens: &Tokens, token: &str, hours: u32) -> Option<(String, Session)> {
        let stored = tokens.find(&tokens.caller(token)?.name)?;
        let expires = Utc::now() + chrono::Duration::hours(i64::from(hours));
        let signed = format!("{}.{}.{}", stored.name, expires.timestamp(), nonce());
        let value = format!("{signed}.{}", mac(&stored, "session", &signed));
        self.session(tokens, &value).map(|session| (value, session))
    }

    /// Returns the session of a cookie value; `None` if the value is forged, expired or signed out, or its token is no longer valid.
    pub fn session(&self, tokens: &Tokens, value: &str) -> Option<Session> {
        let (signed, value_mac) = value.rsplit_once('.')?;
        let (name, expires, nonce) = split(signed)?;
        let stored = tokens.find(name)?;
        let genuine = bool::from(mac(&stored, "session", signed).as_bytes().ct_eq(value_mac.as_bytes()));
        let expires_at = DateTime::from_timestamp(expires, 0)?;
        let signed_out = self.signed_out.lock().unwrap_or_else(PoisonError::into_inner).contains(&(expires, nonce.to_owned()));
        (genuine && expires_at > Utc::now() && !signed_out).then(|| Session {
            name: stored.name.clone(),
            scope: stored.scope,
            csrf: mac(&stored, "csrf", value),
            expires_at,
        })
    }

    /// Signs out the session of a cookie value. Records of expired sessions are dropped meanwhile.
    pub fn sign_out(&self, value: &str) {
        let Some((_, expires, nonce)) = value.rsplit_once('.').and_then(|(signed, _)| split(signed)) else { return };
        let mut signed_out = self.signed_out.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Utc::now().timestamp();
        signed_out.retain(|(until, _)| *until > now);
        signed_out.insert((expires, nonce.to_owned()));
    }
}

impl Session {
    /// Returns true if the text is this session's CSRF token; the comparison takes constant time.
    pub fn csrf_matches(&self, csrf: &str) -> bool {
        self.csrf.as_bytes().ct_eq(csrf.as_bytes()).into()
    }

    /// Returns the session's caller.
    pub fn caller(&self) -> Caller {
        Caller { name: self.name.clone(), scope: self.scope }
    }
}

/// Returns 128 random bits in hex.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    to_hex(&bytes)
}

/// Splits the signed part of a cookie value into the token's name, the expiry (Unix time in seconds) and the nonce.
fn split(signed: &str) -> Option<(&str, i64, &str)> {
    let mut parts = signed.splitn(3, '.');
    Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?))
}

/// Returns the MAC of a text in hex, keyed with the token's hash. `purpose` keeps a MAC from being valid for another use.
fn mac(stored: &StoredToken, purpose: &str, text: &str) -> String {
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(&stored.hash) else { return String::new() };
    hmac.update(format!("{purpose}\n{text}").as_bytes());
    to_hex(&hmac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_depends_on_its_token_and_cannot_be_forged() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let (tokens, _) = Tokens::open(&file, directory.path()).unwrap();
        let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        let sessions = Sessions::default();
        assert!(sessions.sign_in(&tokens, "mp_wrong", 1).is_none());
        let (value, session) = sessions.sign_in(&tokens, &token, 1).unwrap();
        assert!(
            session.scope == Scope::Admin
                && session.csrf_matches(&session.csrf)
                && !session.csrf_matches("")
                && !session.csrf_matches(&value)
        );
        assert_eq!(sessions.session(&tokens, &value).unwrap().csrf, session.csrf);
        let later = value.replacen(&session.expires_at.timestamp().to_string(), "99999999999", 1);
        for forged in ["", "a.b.c.d", &value[..value.len() - 1], &later, &format!("{value}0")] {
            assert!(sessions.session(&tokens, forged).is_none(), "{forged}");
        }
        assert!(sessions.sign_in(&tokens, &token, 0).is_none(), "an expired session is refused");
        let (other, _) = sessions.sign_in(&tokens, &token, 1).unwrap();
        sessions.sign_out(&other);
        assert!(sessions.session(&tokens, &other).is_none() && sessions.session(&tokens, &value).is_some());
        tokens.rotate().unwrap();
        assert!(sessions.session(&tokens, &value).is_none(), "replacing the token ends its sessions");
    }
}
