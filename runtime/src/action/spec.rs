//! The properties that the table of actions declares for each kind of action.

use super::forms::Available;
use super::rules::{Rules, Term};

/// The side effect that an action may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffect {
    /// No change outside the browser. Going to an address counts as reading, as in HTTP (RFC 9110, 9.2.1).
    None,
    /// A change outside the browser, such as one of the site's records.
    Possible,
    /// The side effect of the tool that the action calls.
    OfTool,
}

/// Which tasks may use a kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// Every task, unless its capability was narrowed.
    ByDefault,
    /// Only a task whose capability names the kind.
    #[cfg_attr(not(test), expect(dead_code, reason = "no kind of action needs to be asked for yet"))]
    OnRequest,
}

/// How the grammar offers an action.
#[derive(Clone, Copy)]
pub(super) enum Offer {
    /// By one alternative: the action's word, then what the grammar allows for each argument. If there is nothing to choose from for one of
    /// them, the action is not offered.
    Arguments,
    /// By the alternatives that this function makes from the page. They are listed in the order of the table.
    Page(fn(&Available<'_>, &mut Rules)),
    /// By the alternatives that this function makes from the agent's set-up (tools, who writes the answer). They are listed after all
    /// others.
    Setup(fn(&Available<'_>, &mut Rules)),
}

/// One kind of action, as the table declares it.
#[derive(Clone, Copy)]
pub(super) struct ActionSpec {
    /// The first word of its line, which is also its class in a stored capability.
    pub word: &'static str,
    /// The side effect that it may have.
    pub effect: SideEffect,
    /// Which tasks may use it.
    pub granted: Granted,
    /// How the grammar offers it.
    pub offer: Offer,
    /// Whether one of its arguments is an element.
    pub names_element: bool,
    /// The names of the arguments in parse errors.
    pub expected: &'static [&'static str],
    /// What the grammar allows for each argument.
    pub terms: &'static [TermOf],
}

/// What the grammar allows for an argument of the action with this word.
pub(super) type TermOf = fn(&str, &Available<'_>) -> Option<Term>;

impl ActionSpec {
    /// Adds the alternatives with which the grammar offers the action.
    pub fn add_to(&self, rules: &mut Rules, available: &Available<'_>) {
        match self.offer {
            Offer::Page(add) | Offer::Setup(add) => add(available, rules),
            Offer::Arguments => {
                let Some(terms) = self.terms.iter().map(|term| term(self.word, available)).collect::<Option<Vec<Term>>>() else { return };
                let expressions: Vec<&str> = terms.iter().map(|term| term.expression.as_str()).collect();
                rules.alternative(match expressions.as_slice() {
                    [] => format!("\"{}\"", self.word),
                    expressions => format!("\"{} \" {}", self.word, expressions.join(" \" \" ")),
                });
                terms.into_iter().filter_map(|term| term.rule).for_each(|rule| rules.rule(rule));
            }
        }
    }
}
