//! Processing of a request before its handler runs: id and metrics, authentication, and reading the body, path and query.

pub(crate) mod guard;
pub(crate) mod payload;
pub(crate) mod request_id;
pub(crate) mod unread_body;
