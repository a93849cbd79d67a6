//! The page, tools and settings that an action can refer to in a turn, and the forms in which the agent writes its actions and its answer.

use serde::{Deserialize, Serialize};

use crate::observation::{Element, Observation};
use crate::text::quote;

/// A tool as the grammar needs it: its name and the JSON schema of its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolForm {
    /// Tool name (a word).
    pub name: String,
    /// What the tool does, in a sentence; empty if it is not known. No prompt shows it yet.
    #[serde(default)]
    pub description: String,
    /// JSON schema of the arguments object.
    pub schema: serde_json::Value,
}

/// How an action names its element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// By its id: `click 12`.
    #[default]
    Id,
    /// By its name, then its id: `click "Cart" 12`. A small model finds a name by copying and the id by what follows that name on the page;
    /// the grammar allows only names of elements on the page, each with its own id.
    NameAndId,
}

impl Naming {
    /// Returns the text that names an element in an action.
    pub fn of(self, element: &Element) -> String {
        match self {
            Self::Id => element.id.to_string(),
            Self::NameAndId => format!("{} {}", quote(&element.name), element.id),
        }
    }
}

/// Who writes the answer's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerText {
    /// The summarizer, from the episode (RLTR, 2508.19598 section 3).
    #[default]
    Summarizer,
    /// The executor itself: the end-to-end baseline.
    Executor,
}

/// The page, tools and settings from which the grammar of a turn offers actions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Available<'a> {
    /// The page.
    pub page: &'a Observation,
    /// The tools.
    pub tools: &'a [ToolForm],
    /// Who writes the answer's text.
    pub answer_text: AnswerText,
    /// How an action names its element.
    pub naming: Naming,
}
