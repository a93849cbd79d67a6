//! Who is asking, and whether the request may come in at all.

mod caller;
mod guard;
mod origin;
mod session;
mod tokens;

pub use caller::{Administrator, Caller, Operator, Reader, Scope};
pub(crate) use guard::too_large;
pub use guard::{guard, may_change};
pub use origin::Doors;
pub use session::{COOKIE, CSRF_HEADER, Session, Sessions};
pub use tokens::{NewToken, TokenRow, Tokens};
