//! The observation of a page: its elements with short ids, and the text around them.

use serde::{Deserialize, Serialize};

use crate::text::{quote, squash};

/// A rectangle in CSS pixels of the viewport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// A state of an element that matters to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The checkbox, radio button or switch is ticked.
    Checked,
    /// It cannot be used.
    Disabled,
    /// The disclosure is expanded.
    Expanded,
    /// It has the keyboard focus.
    Focused,
    /// It must be filled in.
    Required,
    /// It is a password field, whose value is never shown.
    Password,
    /// The page marks it as invalid.
    Invalid,
    /// It is the current or selected one.
    Selected,
}

impl State {
    /// Returns the state's name in an observation.
    pub fn word(self) -> &'static str {
        match self {
            Self::Checked => "checked",
            Self::Disabled => "disabled",
            Self::Expanded => "expanded",
            Self::Focused => "focused",
            Self::Required => "required",
            Self::Password => "password",
            Self::Invalid => "invalid",
            Self::Selected => "selected",
        }
    }
}

/// An interactive element of the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Element {
    /// Short id, from 1 in document order on a fresh page, stable while the element lives; never written into the page.
    pub id: u32,
    /// ARIA role (`link`, `button`, `textbox`, `combobox`, `checkbox`, `radio`, …).
    pub role: String,
    /// Accessible name, with single spaces.
    pub name: String,
    /// Current value of a field (of a combobox the selected option's text; never a password).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Texts of the options of a combobox or listbox, in order, at most 40.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The element's states.
    #[serde(default)]
    pub state: Vec<State>,
    /// The element's rectangle, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rect: Option<Rect>,
    /// Index path of the frame that contains it; empty in the top document.
    #[serde(default)]
    pub frame: Vec<u32>,
}

impl Element {
    /// Whether the element is in this state.
    pub fn is(&self, state: State) -> bool {
        self.state.contains(&state)
    }

    /// Whether text can be typed into it.
    pub fn takes_text(&self) -> bool {
        matches!(self.role.as_str(), "textbox" | "searchbox" | "spinbutton") && !self.is(State::Disabled)
    }

    /// Whether one of its options can be selected.
    pub fn takes_option(&self) -> bool {
        matches!(self.role.as_str(), "combobox" | "listbox") && !self.options.is_empty() && !self.is(State::Disabled)
    }

    /// Returns the element as one line: `textbox "Email" 12 = "ana@x.org" required`. The id follows the name: a causal model, which reads
    /// from left to right, has seen the name when it reaches the id.
    pub fn line(&self) -> String {
        let mut line = format!("{} {} {}", self.role, quote(&self.name), self.id);
        if let Some(value) = &self.value {
            line.push_str(" = ");
            line.push_str(&quote(value));
        }
        for state in &self.state {
            line.push(' ');
            line.push_str(state.word());
        }
        line
    }
}

/// The observation of a page at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Address of the top document.
    pub url: String,
    /// Title of the top document.
    pub title: String,
    /// Interactive elements in document order.
    pub elements: Vec<Element>,
    /// Visible text, one block per line; `[#12]` marks the place of element 12.
    pub text: String,
    /// Titles of the open tabs, the current one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tabs: Vec<String>,
    /// Text of an open JavaScript dialog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialog: Option<String>,
    /// The result of the last action, if that was a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_result: Option<String>,
    /// Whether the page differs from the last observation.
    #[serde(default)]
    pub changed: bool,
    /// Whether something was left out to keep the size limit; a check of content that is absent is then unknown, not false.
    pub truncated: bool,
}

impl Observation {
    /// Returns the element with this id.
    pub fn element(&self, id: u32) -> Option<&Element> {
        self.elements.iter().find(|element| element.id == id)
    }

    /// Returns the first element with this role and name.
    pub fn find(&self, role: &str, name: &str) -> Option<&Element> {
        self.elements.iter().find(|element| element.role == role && element.name == name)
    }

    /// Returns the address without scheme and host: path, query and fragment.
    pub fn path(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.find('/').map_or("/", |at| &rest[at..])
    }

    /// Renders the page for the model: one line per text block, with elements in their place as `link "Cart" 12`; at most `max_lines`
    /// lines, and a line `…` after them if some were left out.
    pub fn render(&self, max_lines: usize) -> String {
        let mut lines = vec![format!("page {} {}", quote(&self.title), self.path())];
        let mut placed = std::collections::HashSet::new();
        for block in self.text.lines() {
            self.render_block(block, &mut lines, &mut placed);
        }
        for element in self.elements.iter().filter(|element| !placed.contains(&element.id)) {
            lines.push(element.line());
        }
        if let Some(dialog) = &self.dialog {
            lines.push(format!("dialog {}", quote(dialog)));
        }
        let left_out = self.truncated || lines.len() > max_lines;
        lines.truncate(max_lines);
        if left_out {
            lines.push("…".into());
        }
        if let Some(result) = &self.tool_result {
            lines.push(format!("result {}", quote(&result.chars().take(600).collect::<String>())));
        }
        lines.join("\n")
    }

    /// Adds a text block with its elements to `lines`, and their ids to `placed`.
    fn render_block(&self, block: &str, lines: &mut Vec<String>, placed: &mut std::collections::HashSet<u32>) {
        let mut line = String::new();
        let mut rest = block;
        while let Some(start) = rest.find("[#") {
            let (before, after) = rest.split_at(start);
            line.push_str(before);
            let (id, tail) = after[2..].split_once(']').unwrap_or(("", &after[2..]));
            if let Some(element) = id.parse().ok().and_then(|id| self.element(id)) {
                if !line.trim().is_empty() && !line.ends_with("| ") {
                    line = format!("{} | ", line.trim_end());
                }
                line.push_str(&element.line());
                line.push_str(" | ");
                placed.insert(element.id);
            }
            rest = tail;
        }
        line.push_str(rest);
        let line = squash(line.trim().trim_end_matches('|')).replace("| |", "|");
        if !line.is_empty() {
            lines.push(line);
        }
    }

    /// Returns all text of the observation without element markers: title, text, names, values, dialog and tool result.
    pub fn readable(&self) -> String {
        let mut out = self.title.clone();
        out.push('\n');
        let mut rest = self.text.as_str();
        while let Some(start) = rest.find("[#") {
            out.push_str(&rest[..start]);
            rest = rest[start..].split_once(']').map_or("", |(_, tail)| tail);
        }
        out.push_str(rest);
        for element in &self.elements {
            out.push('\n');
            out.push_str(&element.name);
            if let Some(value) = &element.value {
                out.push('\n');
                out.push_str(value);
            }
        }
        for extra in [&self.dialog, &self.tool_result].into_iter().flatten() {
            out.push('\n');
            out.push_str(extra);
        }
        out
    }

    /// Returns a hash of what an agent acts on (path, text, elements, tool result), 16 hex digits; it serves to detect loops.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hasher = Sha256::new();
        hasher.update(self.path());
        hasher.update(&self.text);
        for element in &self.elements {
            hasher.update(element.line());
        }
        hasher.update(self.tool_result.as_deref().unwrap_or_default());
        hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
