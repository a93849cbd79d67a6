//! Actions: a typed enum with one line of text each, which prints, parses and yields the grammar of what exists now.

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::error::{Error, Result};
use crate::observation::{Element, Observation};
use crate::text::{LITERAL_RULE, lark_string, quote, unquote};

/// A key that can be pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are the keys' own.
pub enum Key {
    Enter,
    Tab,
    Escape,
    ArrowUp,
    ArrowDown,
    ArrowLeft,
    ArrowRight,
    PageUp,
    PageDown,
    Backspace,
}

impl Key {
    /// All keys.
    pub const ALL: [Self; 10] = [
        Self::Enter,
        Self::Tab,
        Self::Escape,
        Self::ArrowUp,
        Self::ArrowDown,
        Self::ArrowLeft,
        Self::ArrowRight,
        Self::PageUp,
        Self::PageDown,
        Self::Backspace,
    ];

    /// The key's name as DOM's `KeyboardEvent.key`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enter => "Enter",
            Self::Tab => "Tab",
            Self::Escape => "Escape",
            Self::ArrowUp => "ArrowUp",
            Self::ArrowDown => "ArrowDown",
            Self::ArrowLeft => "ArrowLeft",
            Self::ArrowRight => "ArrowRight",
            Self::PageUp => "PageUp",
            Self::PageDown => "PageDown",
            Self::Backspace => "Backspace",
        }
    }
}

/// A scroll direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// One viewport up.
    Up,
    /// One viewport down.
    Down,
}

/// The class of an action, which a capability allows or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // One per action.
pub enum ActionKind {
    Click,
    Type,
    Select,
    Press,
    Scroll,
    Goto,
    Back,
    Wait,
    Call,
    Answer,
    Stop,
}

/// One action of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Action {
    /// Click an element.
    Click(u32),
    /// Replace a field's content by a text; `{{secret:name}}` stands for a secret.
    Type {
        /// Element id.
        id: u32,
        /// The text.
        text: String,
    },
    /// Select an option by its text.
    Select {
        /// Element id.
        id: u32,
        /// The option's text.
        option: String,
    },
    /// Press a key on the focused element.
    Press(Key),
    /// Scroll the page by a viewport.
    Scroll(Direction),
    /// Go to an address (absolute, or a path on the current host).
    Goto(String),
    /// Go back in history.
    Back,
    /// Wait for the page to settle or change (about a second).
    Wait,
    /// Call a tool with JSON arguments.
    Call {
        /// Tool name.
        tool: String,
        /// Arguments (a JSON object).
        arguments: serde_json::Value,
    },
    /// The task is done; the summarizer writes the answer (`text` only with `answer_by: executor`).
    Answer {
        /// The executor's own answer text, where it writes it.
        text: Option<String>,
    },
    /// Give up, with the reason.
    Stop(String),
}

impl Action {
    /// Its class.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Click(_) => ActionKind::Click,
            Self::Type { .. } => ActionKind::Type,
            Self::Select { .. } => ActionKind::Select,
            Self::Press(_) => ActionKind::Press,
            Self::Scroll(_) => ActionKind::Scroll,
            Self::Goto(_) => ActionKind::Goto,
            Self::Back => ActionKind::Back,
            Self::Wait => ActionKind::Wait,
            Self::Call { .. } => ActionKind::Call,
            Self::Answer { .. } => ActionKind::Answer,
            Self::Stop(_) => ActionKind::Stop,
        }
    }

    /// The element it acts on.
    pub fn target(&self) -> Option<u32> {
        match self {
            Self::Click(id) | Self::Type { id, .. } | Self::Select { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Why it cannot be done on this page, if it cannot.
    pub fn invalid_on(&self, observation: &Observation) -> Option<String> {
        let id = self.target()?;
        let Some(element) = observation.element(id) else {
            return Some(format!("there is no element {id} on the page"));
        };
        match self {
            Self::Type { .. } if !element.takes_text() => Some(format!("element {id} ({}) takes no text", element.role)),
            Self::Select { option, .. } if !element.options.iter().any(|known| known == option) => {
                Some(format!("element {id} ({}) has no option {option:?}", element.role))
            }
            _ => None,
        }
    }

    /// Reads one action line.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut rest = rest.trim();
        // The element's name may stand before its id; the id alone counts.
        if matches!(verb, "click" | "type" | "select") && rest.starts_with('"') {
            rest = unquote("action", rest)?.1.trim();
        }
        let end = |rest: &str| match rest.trim() {
            "" => Ok(()),
            rest => Err(Error::parse("action", line, format!("unexpected {rest:?} at the end"))),
        };
        let literal = |rest: &str| -> Result<String> {
            let (text, rest) = unquote("action", rest)?;
            end(rest).map(|()| text)
        };
        let numbered = |rest: &str| -> Result<(u32, String)> {
            let (id, rest) =
                rest.split_once(' ').ok_or_else(|| Error::parse("action", line, "expected an element id and a text in quotes"))?;
            let id = id.parse().map_err(|_| Error::parse("action", line, "expected an element id"))?;
            Ok((id, literal(rest.trim())?))
        };
        Ok(match verb {
            "click" => Self::Click(rest.parse().map_err(|_| Error::parse("action", line, "expected an element id"))?),
            "type" => numbered(rest).map(|(id, text)| Self::Type { id, text })?,
            "select" => numbered(rest).map(|(id, option)| Self::Select { id, option })?,
            "press" => match Key::ALL.into_iter().find(|key| key.name() == rest) {
                Some(key) => Self::Press(key),
                None => return Err(Error::parse("action", line, "unknown key")),
            },
            "scroll" => match rest {
                "up" => Self::Scroll(Direction::Up),
                "down" => Self::Scroll(Direction::Down),
                _ => return Err(Error::parse("action", line, "expected `up` or `down`")),
            },
            "goto" => Self::Goto(literal(rest)?),
            "back" => end(rest).map(|()| Self::Back)?,
            "wait" => end(rest).map(|()| Self::Wait)?,
            "call" => {
                let (tool, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
                let arguments = serde_json::from_str(arguments)
                    .map_err(|error| Error::parse("action", line, format!("the arguments are no JSON: {error}")))?;
                Self::Call { tool: tool.to_owned(), arguments }
            }
            "answer" if rest.is_empty() => Self::Answer { text: None },
            "answer" => Self::Answer { text: Some(literal(rest)?) },
            "stop" => Self::Stop(literal(rest)?),
            _ => {
                return Err(Error::parse(
                    "action",
                    line,
                    "expected click, type, select, press, scroll, goto, back, wait, call, answer or stop",
                ));
            }
        })
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Click(id) => write!(f, "click {id}"),
            Self::Type { id, text } => write!(f, "type {id} {}", quote(text)),
            Self::Select { id, option } => write!(f, "select {id} {}", quote(option)),
            Self::Press(key) => write!(f, "press {}", key.name()),
            Self::Scroll(Direction::Up) => write!(f, "scroll up"),
            Self::Scroll(Direction::Down) => write!(f, "scroll down"),
            Self::Goto(url) => write!(f, "goto {}", quote(url)),
            Self::Back => write!(f, "back"),
            Self::Wait => write!(f, "wait"),
            Self::Call { tool, arguments } => write!(f, "call {tool} {arguments}"),
            Self::Answer { text: None } => write!(f, "answer"),
            Self::Answer { text: Some(text) } => write!(f, "answer {}", quote(text)),
            Self::Stop(reason) => write!(f, "stop {}", quote(reason)),
        }
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.to_string()
    }
}

impl TryFrom<String> for Action {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

/// A tool as the grammar needs it: its name and the JSON schema of its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolForm {
    /// Tool name (a word).
    pub name: String,
    /// JSON schema of the arguments object.
    pub schema: serde_json::Value,
}

/// What the grammar of a turn may contain besides what the page offers.
#[derive(Clone, Debug, Default)]
pub struct ActionForms<'a> {
    /// Kinds that the capability allows.
    pub kinds: &'a [ActionKind],
    /// Tools that exist.
    pub tools: &'a [ToolForm],
    /// Whether the executor writes the answer's text itself.
    pub answer_text: AnswerText,
    /// How an action names its element.
    pub naming: Naming,
}

/// How an action names its element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// By its id: `click 12`.
    #[default]
    Id,
    /// By its name, then its id: `click "Cart" 12`. A small model finds a name by copying and the id by what follows that name on
    /// the page; the grammar lets it write only names that are there, each with its own id.
    NameAndId,
}

impl Naming {
    /// How an element is written.
    pub fn of(self, element: &Element) -> String {
        match self {
            Self::Id => element.id.to_string(),
            Self::NameAndId => format!("{} {}", quote(&element.name), element.id),
        }
    }
}

/// The line of an action, with its element named as the forms say.
pub fn named_line(action: &Action, observation: &Observation, naming: Naming) -> String {
    let Some(element) = action.target().and_then(|id| observation.element(id)) else { return action.to_string() };
    let target = naming.of(element);
    match action {
        Action::Type { text, .. } => format!("type {target} {}", quote(text)),
        Action::Select { option, .. } => format!("select {target} {}", quote(option)),
        _ => format!("click {target}"),
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

/// Lark rules for the rule `action` on this page: only ids, options, kinds and tools that exist now can be decoded.
pub fn action_rules(observation: &Observation, forms: &ActionForms<'_>) -> String {
    let allowed = |kind| forms.kinds.contains(&kind);
    let mut choices: Vec<String> = Vec::new();
    let mut rules: Vec<String> = Vec::new();
    let targets = |filter: &dyn Fn(&Element) -> bool| -> Vec<String> {
        observation.elements.iter().filter(|element| filter(element)).map(|element| lark_string(&forms.naming.of(element))).collect()
    };
    // Where actions name their element, a field is for `type` and `select`: a button often has the name of the field beside it.
    let field = |element: &Element| forms.naming == Naming::NameAndId && (element.takes_text() || element.takes_option());
    let clickable = targets(&|element| !element.is(crate::observation::State::Disabled) && !field(element));
    if allowed(ActionKind::Click) && !clickable.is_empty() {
        choices.push("\"click \" click_id".into());
        rules.push(format!("click_id: {}", clickable.join(" | ")));
    }
    let fields = targets(&Element::takes_text);
    if allowed(ActionKind::Type) && !fields.is_empty() {
        choices.push("\"type \" type_id \" \" literal".into());
        rules.push(format!("type_id: {}", fields.join(" | ")));
    }
    if allowed(ActionKind::Select) {
        let option_of = |element: &Element, option: &String| lark_string(&format!("{} {}", forms.naming.of(element), quote(option)));
        let selects: Vec<String> = observation
            .elements
            .iter()
            .filter(|element| element.takes_option())
            .flat_map(|element| element.options.iter().map(move |option| option_of(element, option)))
            .collect();
        if !selects.is_empty() {
            choices.push("\"select \" selection".into());
            rules.push(format!("selection: {}", selects.join(" | ")));
        }
    }
    if allowed(ActionKind::Press) {
        choices.push("\"press \" key".into());
        rules.push(format!("key: {}", Key::ALL.map(|key| format!("\"{}\"", key.name())).join(" | ")));
    }
    for (kind, rule) in [
        (ActionKind::Scroll, "\"scroll \" (\"up\" | \"down\")"),
        (ActionKind::Goto, "\"goto \" literal"),
        (ActionKind::Back, "\"back\""),
        (ActionKind::Wait, "\"wait\""),
        (ActionKind::Stop, "\"stop \" literal"),
    ] {
        if allowed(kind) {
            choices.push(rule.into());
        }
    }
    if allowed(ActionKind::Call) {
        for (index, tool) in forms.tools.iter().enumerate() {
            let mut schema = tool.schema.clone();
            if let Some(object) = schema.as_object_mut() {
                object.insert("x-guidance".into(), serde_json::json!({ "whitespace_flexible": false }));
            }
            choices.push(format!("{} tool_{index}", lark_string(&format!("call {} ", tool.name))));
            rules.push(format!("tool_{index}: %json {schema}"));
        }
    }
    if allowed(ActionKind::Answer) {
        choices.push(match forms.answer_text {
            AnswerText::Summarizer => "\"answer\"".into(),
            AnswerText::Executor => "\"answer \" literal".into(),
        });
    }
    format!("action: {}\n{}", choices.join(" | "), rules.join("\n"))
}

/// Rules that every grammar of this crate shares: literals and checks.
pub fn shared_rules() -> String {
    format!("{LITERAL_RULE}\n{}", Check::grammar_rules())
}
