//! Sign-in by cookie: signed values without a store, so that they outlive a restart and end with their token.

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
use super::tokens::{Known, Tokens, hex};

/// The cookie's name.
pub const COOKIE: &str = "milepost_session";
/// The header that a changing request by cookie carries.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// Who is signed in, and what its changes must carry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Session {
    /// The token's name.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// Goes with every changing request, in the header `X-CSRF-Token`.
    pub csrf: String,
    /// When the sign-in ends.
    pub expires_at: DateTime<Utc>,
}

/// Signs people in and recognises them. A value is `name.expiry.nonce.mac`, keyed with the token's hash.
#[derive(Default)]
pub struct Sessions {
    /// Nonces that signed out, with their expiry.
    ended: Mutex<BTreeSet<(i64, String)>>,
}

impl Sessions {
    /// A new cookie value for a token, with its session; `None` for a token that is not good.
    pub fn sign_in(&self, tokens: &Tokens, token: &str, hours: u32) -> Option<(String, Session)> {
        let known = tokens.named(&tokens.caller(token)?.name)?;
        let expires = Utc::now() + chrono::Duration::hours(i64::from(hours));
        let front = format!("{}.{}.{}", known.name, expires.timestamp(), nonce());
        let value = format!("{front}.{}", sign(&known, "session", &front));
        self.session(tokens, &value).map(|session| (value, session))
    }

    /// The session of a cookie value, where it is good.
    pub fn session(&self, tokens: &Tokens, value: &str) -> Option<Session> {
        let (front, mac) = value.rsplit_once('.')?;
        let (name, expires, nonce) = parts(front)?;
        let known = tokens.named(name)?;
        let genuine = bool::from(sign(&known, "session", front).as_bytes().ct_eq(mac.as_bytes()));
        let expires_at = DateTime::from_timestamp(expires, 0)?;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&(expires, nonce.to_owned()));
        (genuine && expires_at > Utc::now() && !ended).then(|| Session {
            name: known.name.clone(),
            scope: known.scope,
            csrf: sign(&known, "csrf", value),
            expires_at,
        })
    }

    /// Signs out.
    pub fn sign_out(&self, value: &str) {
        let Some((_, expires, nonce)) = value.rsplit_once('.').and_then(|(front, _)| parts(front)) else { return };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Utc::now().timestamp();
        ended.retain(|(until, _)| *until > now);
        ended.insert((expires, nonce.to_owned()));
    }
}

impl Session {
    /// Whether a request carries this session's word.
    pub fn vouches(&self, csrf: &str) -> bool {
        self.csrf.as_bytes().ct_eq(csrf.as_bytes()).into()
    }

    /// Its caller.
    pub fn caller(&self) -> Caller {
        Caller { name: self.name.clone(), scope: self.scope }
    }
}

fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    hex(&bytes)
}

fn parts(front: &str) -> Option<(&str, i64, &str)> {
    let mut parts = front.splitn(3, '.');
    Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?))
}

fn sign(known: &Known, purpose: &str, text: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&known.hash) else { return String::new() };
    mac.update(format!("{purpose}\n{text}").as_bytes());
    hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_tokens_and_cannot_be_made_up() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let (tokens, _) = Tokens::open(&file, directory.path()).unwrap();
        let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        let sessions = Sessions::default();
        assert!(sessions.sign_in(&tokens, "mp_wrong", 1).is_none());
        let (value, session) = sessions.sign_in(&tokens, &token, 1).unwrap();
        assert!(session.scope == Scope::Admin && session.vouches(&session.csrf) && !session.vouches("") && !session.vouches(&value));
        assert_eq!(sessions.session(&tokens, &value).unwrap().csrf, session.csrf);
        let later = value.replacen(&session.expires_at.timestamp().to_string(), "99999999999", 1);
        for forged in ["", "a.b.c.d", &value[..value.len() - 1], &later, &format!("{value}0")] {
            assert!(sessions.session(&tokens, forged).is_none(), "{forged}");
        }
        assert!(sessions.sign_in(&tokens, &token, 0).is_none(), "an expired one is no session");
        let (other, _) = sessions.sign_in(&tokens, &token, 1).unwrap();
        sessions.sign_out(&other);
        assert!(sessions.session(&tokens, &other).is_none() && sessions.session(&tokens, &value).is_some());
        tokens.rotate().unwrap();
        assert!(sessions.session(&tokens, &value).is_none(), "a rotation signs everybody out");
    }
}
