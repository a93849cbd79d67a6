//! Actions: a typed enum, each of whose variants has a form as one line of text. This module prints and parses these lines, and generates
//! the grammar of those that are possible in a turn.
//!
//! `table.rs` declares every kind of action in one place and says how to add one.

mod arguments;
mod declare;
mod forms;
mod grammar;
mod line;
mod properties;
mod rules;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use arguments::Argument;
pub use forms::{AnswerText, Naming, ToolForm};
pub use grammar::{ActionForms, action_rules, shared_rules};
pub use line::named_line;
pub use spec::SideEffect;
pub use table::{Action, ActionKind};
pub use values::{Direction, Key};
