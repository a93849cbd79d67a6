//! Authentication: callers and their tokens, sessions by cookie, and the host names and origins that the daemon accepts.

mod caller;
mod host_and_origin;
mod session;
mod tokens;

pub use caller::{Administrator, Caller, Operator, Reader, Scope};
pub use host_and_origin::HostAndOriginPolicy;
pub use session::{COOKIE, CSRF_HEADER, Session, Sessions};
pub use tokens::{NewToken, TokenRow, Tokens};
