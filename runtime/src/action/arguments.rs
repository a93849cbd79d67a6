//! The arguments of actions: how each is read from a line, printed, and offered by the grammar.

use std::marker::PhantomData;

use serde_json::Value;

use super::forms::{Available, Naming};
use super::rules::Term;
use super::values::{Direction, Key};
use crate::error::{Error, Result};
use crate::observation::{Element, State};
use crate::text::{quote, unquote};

/// A kind of argument. The table of actions names one for each argument.
pub(super) trait ArgumentKind {
    /// The Rust type of the argument in `Action`.
    type Value;
    /// The name of the argument in the error about a line that lacks it: `expected …`.
    const EXPECTED: &'static str;
    /// Whether the argument is an element's id.
    const IS_ELEMENT: bool = false;

    /// Reads the argument from the front of the rest of a line.
    fn read(rest: &mut Rest<'_>) -> Result<Self::Value>;

    /// Returns the argument of an action; `None` if it is left out.
    fn view(value: &Self::Value) -> Option<Argument<'_>>;

    /// Returns what the grammar allows for this argument of the action `word`; `None` if there is nothing to choose from. An action with an
    /// argument whose kind has no term needs an `offer` in its table entry.
    fn term(_word: &str, _available: &Available<'_>) -> Option<Term> {
        None
    }
}

/// An argument of any action.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    /// An element.
    Element {
        /// The element's id.
        id: u32,
        /// Whether the grammar offers an element to the action, under this naming.
        accepts: fn(&Element, Naming) -> bool,
        /// Returns why the action is invalid on an element, if it is.
        refusal: fn(&Element) -> Option<String>,
    },
    /// A text without a meaning for the runtime.
    Text(&'a str),
    /// A text that is typed into the page, where `{{secret:name}}` stands for a secret.
    TypedText(&'a str),
    /// The text of one of the element's options.
    Choice(&'a str),
    /// An address (absolute, or relative to the current page).
    Address(&'a str),
    /// The name of a key or a direction.
    Word(&'a str),
    /// The name of a tool.
    Tool(&'a str),
    /// The arguments of a tool.
    ToolArguments(&'a Value),
}

impl Argument<'_> {
    /// Returns the argument as an action line contains it; `element` returns the text for an element id.
    pub fn written(&self, element: impl Fn(u32) -> String) -> String {
        match self {
            Self::Element { id, .. } => element(*id),
            Self::Text(text) | Self::TypedText(text) | Self::Choice(text) | Self::Address(text) => quote(text),
            Self::Word(word) | Self::Tool(word) => (*word).to_owned(),
            Self::ToolArguments(value) => value.to_string(),
        }
    }
}

/// The part of an action line that is not yet parsed.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    line: &'a str,
    rest: &'a str,
    /// The names of the action's arguments in parse errors.
    expected: &'static [&'static str],
    /// The number of arguments after the one that is being read.
    following: usize,
}

impl<'a> Rest<'a> {
    /// Creates the parser of `rest`, the part of `line` after the action's word. `expected` names the arguments that should follow.
    pub fn new(line: &'a str, rest: &'a str, expected: &'static [&'static str]) -> Self {
        Self { line, rest, expected, following: expected.len() }
    }

    /// Reads the next argument.
    pub fn argument<K: ArgumentKind>(&mut self) -> Result<K::Value> {
        self.following = self.following.saturating_sub(1);
        K::read(self)
    }

    /// Returns an error about this line.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::parse("action", self.line, reason)
    }

    /// Checks that nothing of the line is left to parse.
    pub fn end(&self) -> Result<()> {
        match self.rest.trim() {
            "" => Ok(()),
            rest => Err(self.error(format!("unexpected {rest:?} at the end"))),
        }
    }

    /// Reads a word: up to the next space if more arguments follow, otherwise to the end of the line.
    fn word(&mut self) -> Result<&'a str> {
        if self.following == 0 {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (word, rest) = self.rest.split_once(' ').ok_or_else(|| self.error(format!("expected {}", self.expected.join(" and "))))?;
        self.rest = rest;
        Ok(word)
    }

    /// Reads a text in double quotes.
    fn literal(&mut self) -> Result<String> {
        let (text, rest) = unquote("action", self.rest.trim())?;
        self.rest = rest;
        Ok(text)
    }
}

/// The elements that an action may name.
pub(super) trait Target {
    /// Whether the grammar offers an element, which is not disabled, to the action.
    fn accepts(element: &Element, naming: Naming) -> bool;

    /// Returns why the action is invalid on an element, if it is.
    fn refusal(_: &Element) -> Option<String> {
        None
    }
}

/// Any element. If actions name their elements, fields are reserved for `type` and `select`: a button often has the name of the field
/// beside it.
pub(super) struct Clickable;

impl Target for Clickable {
    fn accepts(element: &Element, naming: Naming) -> bool {
        naming == Naming::Id || !(element.takes_text() || element.takes_option())
    }
}

/// A field that takes text.
pub(super) struct TextField;

impl Target for TextField {
    fn accepts(element: &Element, _: Naming) -> bool {
        element.takes_text()
    }

    fn refusal(element: &Element) -> Option<String> {
        (!element.takes_text()).then(|| format!("element {} ({}) takes no text", element.id, element.role))
    }
}

/// A drop-down list or list box.
pub(super) struct SelectField;

impl Target for SelectField {
    fn accepts(element: &Element, _: Naming) -> bool {
        element.takes_option()
    }
}

/// The id of an element. A line may contain the element's name in quotes before the id; the name is ignored.
pub(super) struct ElementId<T>(PhantomData<T>);

impl<T: Target> ArgumentKind for ElementId<T> {
    type Value = u32;
    const EXPECTED: &'static str = "an element id";
    const IS_ELEMENT: bool = true;

    fn read(rest: &mut Rest<'_>) -> Result<u32> {
        if rest.rest.starts_with('"') {
            rest.rest = unquote("action", rest.rest)?.1.trim();
        }
        let word = rest.word()?;
        word.parse().map_err(|_| rest.error("expected an element id"))
    }

    fn view(id: &u32) -> Option<Argument<'_>> {
        Some(Argument::Element { id: *id, accepts: T::accepts, refusal: T::refusal })
    }

    fn term(word: &str, available: &Available<'_>) -> Option<Term> {
        let elements = available.page.elements.iter();
        let accepted = elements.filter(|element| !element.is(State::Disabled) && T::accepts(element, available.naming));
        Term::one_of(&format!("{word}_id"), accepted.map(|element| available.naming.of(element)))
    }
}

/// Declares a kind of argument that is a text in double quotes.
macro_rules! quoted {
    ($(#[doc = $doc:expr])* $kind:ident is $view:ident $(, offered as $term:literal)?) => {
        $(#[doc = $doc])*
        pub(super) struct $kind;

        impl ArgumentKind for $kind {
            type Value = String;
            const EXPECTED: &'static str = "a text in quotes";

            fn read(rest: &mut Rest<'_>) -> Result<String> {
                rest.literal()
            }

            fn view(text: &String) -> Option<Argument<'_>> {
                Some(Argument::$view(text))
            }

            $(fn term(_: &str, _: &Available<'_>) -> Option<Term> {
                Some(Term::plain($term))
            })?
        }
    };
}

quoted! {
    /// A text without a meaning for the runtime.
    Text is Text, offered as "literal"
}

quoted! {
    /// A text that is typed into the page; `{{secret:name}}` stands for a secret.
    TypedText is TypedText, offered as "literal"
}

quoted! {
    /// An address, absolute or relative to the current page.
    Address is Address, offered as "literal"
}

quoted! {
    /// The text of one of the element's options.
    SelectOption is Choice
}

/// A text in double quotes that may be left out.
pub(super) struct OptionalText;

impl ArgumentKind for OptionalText {
    type Value = Option<String>;
    const EXPECTED: &'static str = "a text in quotes";

    fn read(rest: &mut Rest<'_>) -> Result<Option<String>> {
        if rest.rest.is_empty() { Ok(None) } else { rest.literal().map(Some) }
    }

    fn view(text: &Option<String>) -> Option<Argument<'_>> {
        text.as_deref().map(Argument::Text)
    }
}

impl ArgumentKind for Key {
    type Value = Self;
    const EXPECTED: &'static str = "a key";

    fn read(rest: &mut Rest<'_>) -> Result<Self> {
        let word = rest.word()?;
        Self::ALL.into_iter().find(|key| key.name() == word).ok_or_else(|| rest.error("unknown key"))
    }

    fn view(key: &Self) -> Option<Argument<'_>> {
        Some(Argument::Word(key.name()))
    }

    fn term(_: &str, _: &Available<'_>) -> Option<Term> {
        Term::one_of("key", Self::ALL.map(|key| key.name().to_owned()))
    }
}

impl ArgumentKind for Direction {
    type Value = Self;
    const EXPECTED: &'static str = "a direction";

    fn read(rest: &mut Rest<'_>) -> Result<Self> {
        match rest.word()? {
            "up" => Ok(Self::Up),
            "down" => Ok(Self::Down),
            _ => Err(rest.error("expected `up` or `down`")),
        }
    }

    fn view(direction: &Self) -> Option<Argument<'_>> {
        Some(Argument::Word(direction.name()))
    }

    fn term(_: &str, _: &Available<'_>) -> Option<Term> {
        Some(Term::plain("(\"up\" | \"down\")"))
    }
}

/// The name of a tool.
pub(super) struct ToolName;

impl ArgumentKind for ToolName {
    type Value = String;
    const EXPECTED: &'static str = "a tool";

    fn read(rest: &mut Rest<'_>) -> Result<String> {
        let (tool, arguments) = rest.rest.split_once(' ').unwrap_or((rest.rest, ""));
        rest.rest = arguments;
        Ok(tool.to_owned())
    }

    fn view(tool: &String) -> Option<Argument<'_>> {
        Some(Argument::Tool(tool))
    }
}

/// The arguments of a tool as JSON, to the end of the line; `{}` if they are left out.
pub(super) struct ToolArguments;

impl ArgumentKind for ToolArguments {
    type Value = Value;
    const EXPECTED: &'static str = "a JSON object";

    fn read(rest: &mut Rest<'_>) -> Result<Value> {
        let arguments = match std::mem::take(&mut rest.rest) {
            "" => "{}",
            arguments => arguments,
        };
        serde_json::from_str(arguments).map_err(|error| rest.error(format!("the arguments are no JSON: {error}")))
    }

    fn view(arguments: &Value) -> Option<Argument<'_>> {
        Some(Argument::ToolArguments(arguments))
    }
}
