//! The table of actions: everything that is particular to one kind of action is declared in its entry here.
//!
//! # How to add an action
//!
//! 1. **Add an entry to the table below.** It names the variant, its arguments, its word and its effect:
//!
//!    ```text
//!    /// Move the pointer over an element.
//!    Hover(id: u32 as ElementId<Clickable>) = "hover" { effect: SideEffect::None }
//!    ```
//!
//!    - An argument is written `name: RustType as Kind`. The kind (`arguments.rs`) says how the argument is read, printed, offered by the
//!      grammar and confined by a capability. An address must be an `Address` and a text that is typed a `TypedText`: hosts and
//!      secrets are guarded by these kinds.
//!    - The word begins the action's line and is its class in a stored capability. Neither may change later, since episodes are stored
//!      with both.
//!    - The effect says whether the action may change something outside the browser. The run is then recorded as having acted before it
//!      acts.
//!    - `granted: Granted::OnRequest` keeps the kind out of the default capability.
//!    - `offer: …` replaces the alternative that the grammar would make from the arguments.
//!
//!    The order of the table is the order of the grammar and of the default capability: add at the end.
//! 2. **Add a handler where the action is carried out**: an arm in `perform` of `tools/src/browser/act.rs`. Every other
//!    environment refuses an action that it does not know with [`Outcome::unsupported`](crate::Outcome::unsupported).
//!
//! The kind can then be parsed, printed, stored, decoded under the grammar, validated, and allowed or refused by a capability. The
//! test-only entry at the end of the table and its environment in `tests.rs` beside this file are the smallest example.
//!
//! What changes with a new kind: the snapshots that list all kinds (review them), and, if the kind is granted by default, the grammar of
//! every turn, so that a small model must be trained on it. The prompt of instruct models lists the actions in words
//! (`planners/prompts/instruct/turn.jinja`); a change there changes the hash of the prompts, and with it every generation's id.

use serde::{Deserialize, Serialize};

use super::arguments::{
    Address, Argument, ArgumentKind, Clickable, ElementId, OptionalText, Rest, SelectField, SelectOption, Text, TextField, ToolArguments,
    ToolName, TypedText,
};
use super::declare::actions;
use super::rules::{answer, selections, tool_calls};
use super::spec::{ActionSpec, Granted, Offer, SideEffect};
use super::values::{Direction, Key};
use crate::error::Result;

actions! {
    /// Click an element.
    Click(id: u32 as ElementId<Clickable>) = "click" { effect: SideEffect::Possible }

    /// Replace a field's content by a text; `{{secret:name}}` stands for a secret.
    Type {
        /// Element id.
        id: u32 as ElementId<TextField>,
        /// The text.
        text: String as TypedText,
    } = "type" { effect: SideEffect::Possible }

    /// Select an option by its text.
    Select {
        /// Element id.
        id: u32 as ElementId<SelectField>,
        /// The option's text.
        option: String as SelectOption,
    } = "select" { effect: SideEffect::Possible, offer: Offer::Page(selections) }

    /// Press a key on the focused element.
    Press(key: Key as Key) = "press" { effect: SideEffect::Possible }

    /// Scroll the page by a viewport.
    Scroll(direction: Direction as Direction) = "scroll" { effect: SideEffect::None }

    /// Go to an address (absolute, or a path on the current host).
    Goto(address: String as Address) = "goto" { effect: SideEffect::None }

    /// Go back in history.
    Back = "back" { effect: SideEffect::None }

    /// Wait for the page to settle or change (about a second).
    Wait = "wait" { effect: SideEffect::None }

    /// Call a tool with JSON arguments.
    Call {
        /// Tool name.
        tool: String as ToolName,
        /// Arguments (a JSON object).
        arguments: serde_json::Value as ToolArguments,
    } = "call" { effect: SideEffect::OfTool, offer: Offer::Setup(tool_calls) }

    /// The task is done; the summarizer writes the answer (`text` only with `answer_by: executor`).
    Answer {
        /// The text of the answer, if the executor writes it.
        text: Option<String> as OptionalText,
    } = "answer" { effect: SideEffect::None, offer: Offer::Setup(answer) }

    /// Give up, with the reason.
    Stop(reason: String as Text) = "stop" { effect: SideEffect::None }

    /// Show where an element is: exists in tests only.
    #[cfg(test)]
    Highlight {
        /// Element id.
        id: u32 as ElementId<Clickable>,
        /// The text beside it.
        label: String as Text,
    } = "highlight" { effect: SideEffect::Possible, granted: Granted::OnRequest }
}
