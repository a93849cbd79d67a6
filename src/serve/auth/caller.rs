//! Callers and what they may do; a handler says by its extractor which scope it needs.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::serve::problem::Problem;

/// What a token allows; each scope holds the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See tasks, episodes, adapters, metrics.
    Read,
    /// Hand in, cancel, approve, answer.
    Run,
    /// Adapters and improvement.
    Admin,
}

impl Scope {
    /// The scope's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }
}

/// Who is asking: the guard puts it into every request that it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's name.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
}

impl Caller {
    /// Refuses a caller whose token does not allow this.
    ///
    /// # Errors
    /// 403.
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

    fn of(parts: &Parts, scope: Scope) -> Result<Self, Problem> {
        match parts.extensions.get::<Self>() {
            Some(caller) => caller.clone().require(scope),
            None => Err(Problem::internal(&"a route is open that asks who is calling")),
        }
    }
}

/// A caller who may see.
pub struct Reader(pub Caller);
/// A caller who may hand in and decide.
pub struct Operator(pub Caller);
/// A caller who may change what serves.
pub struct Administrator(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::of(parts, Scope::Read).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::of(parts, Scope::Run).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Caller::of(parts, Scope::Admin).map(Self)
    }
}
