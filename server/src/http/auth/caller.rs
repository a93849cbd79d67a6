//! Callers and their scopes; a handler states by its extractor which scope it needs.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::errors::Problem;

/// What a token permits; each scope includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading tasks, episodes, adapters and metrics.
    Read,
    /// Submitting tasks, cancelling and approving them, and sending messages and feedback.
    Run,
    /// Promoting and rolling back adapters, and starting the improvement loop.
    Admin,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|scope| scope.word() == word);
        known.ok_or_else(|| format!("{word:?} is no scope; use one of {}", Self::ALL.map(Self::word).join(", ")))
    }
}

impl Scope {
    /// All scopes, the smallest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Run, Self::Admin];

    /// Returns the scope's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }
}

/// The authenticated caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the caller's token.
    pub name: String,
    /// The scope of the caller's token.
    pub scope: Scope,
}

impl Caller {
    /// Checks that the caller's token includes the scope.
    ///
    /// # Errors
    /// 403: the token's scope is smaller.
    pub fn require(self, scope: Scope) -> Result<Self, Problem> {
        match self.scope >= scope {
            true => Ok(self),
            false => Err(Problem::forbidden(format!(
                "this needs the scope `{}`, and the token {:?} has `{}`; use another token, or make one with `milepost token add`",
                scope.word(),
                self.name,
                self.scope.word()
            ))),
        }
    }

    /// Returns the request's caller if it has the scope. A request without a caller is a programming error: the route was let through without a
    /// token.
    fn from_parts(parts: &Parts, scope: Scope) -> Result<Self, Problem> {
        match parts.extensions.get::<Self>() {
            Some(caller) => caller.clone().require(scope),
            None => Err(Problem::internal(&"a route that needs a caller is open without a token")),
        }
    }
}

/// A caller with the scope [`Scope::Read`].
pub struct Reader(pub Caller);
/// A caller with the scope [`Scope::Run`].
pub struct Operator(pub Caller);
/// A caller with the scope [`Scope::Admin`].
pub struct Administrator(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::from_parts(parts, Scope::Read).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::from_parts(parts, Scope::Run).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::from_parts(parts, Scope::Admin).map(Self)
    }
}
