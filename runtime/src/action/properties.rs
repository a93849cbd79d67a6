//! Properties of actions that follow from the table, for code that treats all kinds alike.

use super::arguments::Argument;
use super::forms::Naming;
use super::spec::{Granted, SideEffect};
use super::table::{Action, ActionKind};
use crate::observation::{Element, Observation};
use crate::secrets;

impl ActionKind {
    /// Returns the first word of lines of this kind.
    pub fn word(self) -> &'static str {
        self.spec().word
    }

    /// Returns the kind whose lines have this first word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }

    /// Whether actions of this kind name an element.
    pub fn names_element(self) -> bool {
        self.spec().names_element
    }

    /// Whether the default capability contains this kind.
    pub(crate) fn is_granted_by_default(self) -> bool {
        self.spec().granted == Granted::ByDefault
    }
}

impl Action {
    /// Returns the side effect that the action may have.
    pub fn effect(&self) -> SideEffect {
        self.kind().spec().effect
    }

    /// Returns the id of the element that it acts on.
    pub fn target(&self) -> Option<u32> {
        self.arguments().into_iter().find_map(|argument| match argument {
            Argument::Element { id, .. } => Some(id),
            _ => None,
        })
    }

    /// Whether the grammar offers `element`, if it is not disabled, to actions of this kind under this naming.
    pub fn accepts(&self, element: &Element, naming: Naming) -> bool {
        self.arguments().into_iter().any(|argument| match argument {
            Argument::Element { accepts, .. } => accepts(element, naming),
            _ => false,
        })
    }

    /// Returns the addresses that it goes to: its own, and the `url` among the arguments of a tool.
    pub fn network_targets(&self) -> Vec<&str> {
        let targets = self.arguments().into_iter().filter_map(|argument| match argument {
            Argument::Address(address) => Some(address),
            Argument::ToolArguments(arguments) => arguments.get("url").and_then(|url| url.as_str()),
            _ => None,
        });
        targets.collect()
    }

    /// Returns the name of the tool that it calls.
    pub fn tool(&self) -> Option<&str> {
        self.arguments().into_iter().find_map(|argument| match argument {
            Argument::Tool(tool) => Some(tool),
            _ => None,
        })
    }

    /// Returns the names of the secrets that it types.
    pub fn secrets(&self) -> Vec<String> {
        let typed = self.arguments().into_iter().filter_map(|argument| match argument {
            Argument::TypedText(text) => Some(secrets::names(text)),
            _ => None,
        });
        typed.flatten().collect()
    }

    /// Returns the reason why the action is invalid on this page; `None` if it is valid.
    pub fn invalid_on(&self, observation: &Observation) -> Option<String> {
        let target = self.target().and_then(|id| observation.element(id));
        self.arguments().into_iter().find_map(|argument| match (argument, target) {
            (Argument::Element { id, refusal, .. }, _) => match observation.element(id) {
                Some(element) => refusal(element),
                None => Some(format!("there is no element {id} on the page")),
            },
            (Argument::Choice(option), Some(element)) if !element.options.iter().any(|known| known == option) => {
                Some(format!("element {} ({}) has no option {option:?}", element.id, element.role))
            }
            _ => None,
        })
    }
}
