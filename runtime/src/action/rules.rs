//! Pieces of the grammar of a turn, in Lark.

use super::forms::{AnswerText, Available};
use crate::text::{lark_string, quote};

/// The alternatives of the rule `action`, and the rules that they refer to.
#[derive(Debug, Default)]
pub(super) struct Rules {
    alternatives: Vec<String>,
    rules: Vec<String>,
}

impl Rules {
    /// Adds an alternative of the rule `action`.
    pub fn alternative(&mut self, alternative: impl Into<String>) {
        self.alternatives.push(alternative.into());
    }

    /// Adds a rule that an alternative refers to, unless another alternative has added it.
    pub fn rule(&mut self, rule: String) {
        if !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
    }

    /// Returns the rule `action` with the rules that it refers to, in the order in which they were added.
    pub fn lark(&self) -> String {
        format!("action: {}\n{}", self.alternatives.join(" | "), self.rules.join("\n"))
    }
}

/// What one argument contributes to an alternative: an expression, and the rule that the expression refers to, if any.
#[derive(Debug)]
pub(super) struct Term {
    /// The Lark expression.
    pub expression: String,
    /// The rule that it refers to.
    pub rule: Option<String>,
}

impl Term {
    /// An expression that needs no rule besides those that every grammar has.
    pub fn plain(expression: &str) -> Self {
        Self { expression: expression.to_owned(), rule: None }
    }

    /// A rule with this name that allows any of these texts; `None` if there are none.
    pub fn one_of(name: &str, texts: impl IntoIterator<Item = String>) -> Option<Self> {
        let texts: Vec<String> = texts.into_iter().map(|text| lark_string(&text)).collect();
        if texts.is_empty() {
            return None;
        }
        Some(Self { expression: name.to_owned(), rule: Some(format!("{name}: {}", texts.join(" | "))) })
    }
}

/// Adds the alternative of `select`: each drop-down list with each of its options.
pub(super) fn selections(available: &Available<'_>, rules: &mut Rules) {
    let lists = available.page.elements.iter().filter(|element| element.takes_option());
    let pairs = lists.flat_map(|list| list.options.iter().map(|option| format!("{} {}", available.naming.of(list), quote(option))));
    if let Some(Term { expression, rule: Some(rule) }) = Term::one_of("selection", pairs) {
        rules.alternative(format!("\"select \" {expression}"));
        rules.rule(rule);
    }
}

/// Adds the alternatives of `call`: each tool with the arguments that its schema allows.
pub(super) fn tool_calls(available: &Available<'_>, rules: &mut Rules) {
    for (index, tool) in available.tools.iter().enumerate() {
        let mut schema = tool.schema.clone();
        if let Some(object) = schema.as_object_mut() {
            object.insert("x-guidance".into(), serde_json::json!({ "whitespace_flexible": false }));
        }
        rules.alternative(format!("{} tool_{index}", lark_string(&format!("call {} ", tool.name))));
        rules.rule(format!("tool_{index}: %json {schema}"));
    }
}

/// Adds the alternative of `answer`, with a text only if the executor writes it.
pub(super) fn answer(available: &Available<'_>, rules: &mut Rules) {
    rules.alternative(match available.answer_text {
        AnswerText::Summarizer => "\"answer\"",
        AnswerText::Executor => "\"answer \" literal",
    });
}
