//! The role, name, value and state of an element, by the same rules as in the browser's script (`browser/observe.js`).

use milepost_runtime::State;

use super::dom::{Kind, MAX_DEPTH, NodeId, collapse_whitespace};
use super::page::{BUTTON_INPUTS, Page};

/// The elements whose content is never read.
pub(crate) const SKIPPED: [&str; 14] = [
    "script", "style", "template", "noscript", "head", "canvas", "video", "audio", "object", "datalist", "title", "desc", "defs",
    "metadata",
];

/// The ARIA roles of elements that can be acted on.
const ROLES: [&str; 14] = [
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "listbox",
    "option",
    "checkbox",
    "radio",
    "switch",
    "tab",
    "menuitem",
    "slider",
    "spinbutton",
];

/// The elements that a browser's own style sheet draws as blocks.
const BLOCKS: [&str; 59] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "col",
    "colgroup",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "frameset",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "li",
    "listing",
    "main",
    "menu",
    "nav",
    "ol",
    "optgroup",
    "option",
    "p",
    "plaintext",
    "pre",
    "search",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "ul",
    "xmp",
    "text",
    "foreignobject",
    "foreignObject",
];

/// The elements that a browser's own style sheet does not draw.
const NOT_DRAWN: [&str; 9] = ["area", "base", "basefont", "link", "meta", "noembed", "noframes", "param", "rp"];

impl Page {
    /// Returns a property from the element's own `style` attribute, in lower case.
    fn inline_style(&self, node: NodeId, property: &str) -> Option<String> {
        let style = self.dom.attribute(node, "style")?;
        let mut declared =
            style.split(';').filter_map(|part| part.split_once(':')).filter(|(name, _)| name.trim().eq_ignore_ascii_case(property));
        declared.next_back().map(|(_, value)| value.trim().trim_end_matches("!important").trim_end().to_ascii_lowercase())
    }

    /// Whether the element itself hides its subtree.
    pub fn hidden(&self, node: NodeId) -> bool {
        let (dom, tag) = (&self.dom, self.dom.tag(node));
        SKIPPED.contains(&tag)
            || NOT_DRAWN.contains(&tag)
            || dom.has(node, "hidden")
            || dom.attribute(node, "aria-hidden") == Some("true")
            || (tag == "dialog" && !dom.has(node, "open"))
            || dom.has(node, "popover")
            || (tag == "input" && self.input_type(node) == "hidden")
            || self.inline_style(node, "display").as_deref() == Some("none")
    }

    /// Whether the element is visible by the property `visibility`, which is inherited.
    pub fn visible(&self, node: NodeId) -> bool {
        let declared = self.dom.with_ancestors(node).find_map(|at| self.inline_style(at, "visibility").filter(|value| value != "inherit"));
        declared.is_none_or(|value| value == "visible")
    }

    /// Whether the element is not drawn because it or an ancestor is hidden, closed or invisible.
    pub fn not_rendered(&self, node: NodeId) -> bool {
        let mut inner = node;
        for at in self.dom.with_ancestors(node) {
            let closed = at != node && self.dom.tag(at) == "details" && !self.is_open(at) && self.summary_of(at) != Some(inner);
            if self.hidden(at) || closed {
                return true;
            }
            inner = at;
        }
        !self.visible(node)
    }

    /// Whether the element begins and ends a line.
    pub fn is_block(&self, node: NodeId) -> bool {
        match self.inline_style(node, "display") {
            Some(display) => !display.starts_with("inline") && !display.starts_with("ruby") && display != "contents",
            None => match self.dom.tag(node) {
                "text" => self.dom.closest(node, "svg").is_some(),
                tag => BLOCKS.contains(&tag),
            },
        }
    }

    /// Returns the summary that opens and closes a `details` element.
    pub fn summary_of(&self, details: NodeId) -> Option<NodeId> {
        self.dom.children(details).find(|&child| self.dom.tag(child) == "summary")
    }

    /// Returns the first word of the attribute `role`; `None` for the roles without a meaning (`none`, `presentation`, `generic`).
    fn explicit_role(&self, node: NodeId) -> Option<String> {
        let role = self.dom.attribute(node, "role")?.split_whitespace().next()?.to_ascii_lowercase();
        (!matches!(role.as_str(), "none" | "presentation" | "generic")).then_some(role)
    }

    /// Whether HTML itself makes the element a control.
    fn is_native(&self, node: NodeId) -> bool {
        match self.dom.tag(node) {
            "" => false,
            "a" => self.dom.has(node, "href") || self.editable(node),
            "input" => self.input_type(node) != "hidden",
            "button" | "select" | "textarea" | "summary" => true,
            _ => self.editable(node),
        }
    }

    /// Whether the element can be acted on. `inside` another such element, only native controls and elements with a role count.
    pub fn is_control(&self, node: NodeId, inside: bool) -> bool {
        if self.is_native(node) || self.explicit_role(node).is_some_and(|role| ROLES.contains(&role.as_str())) {
            return true;
        }
        let tag = self.dom.tag(node);
        if inside || matches!(tag, "body" | "html") {
            return false;
        }
        let tab =
            || self.dom.attribute(node, "tabindex").and_then(|index| index.trim().parse::<i32>().ok()).is_some_and(|index| index >= 0);
        self.dom.has(node, "onclick") || (tab() && !self.dom.descendants(node).any(|below| self.is_native(below)))
    }

    /// Whether the element is drawn with a size: it is a form control, or contains text, an image or another element that is drawn.
    pub fn is_sized(&self, node: NodeId) -> bool {
        let dom = &self.dom;
        if matches!(dom.tag(node), "button" | "input" | "select" | "textarea" | "summary") {
            return true;
        }
        let mut below = node + 1;
        while dom.contains(node, below) {
            match dom.kind(below) {
                Kind::Text(text) if text.contains(|c: char| !matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')) => return true,
                Kind::Element { .. } if self.hidden(below) => {
                    below = dom.descendants(below).end;
                    continue;
                }
                Kind::Element { tag, .. } => match &**tag {
                    "img" if dom.attribute(below, "alt").is_some_and(|alt| !alt.is_empty()) => return true,
                    "img" if dom.has(below, "src") && !dom.has(below, "alt") => return true,
                    "button" | "input" | "select" | "textarea" | "svg" | "iframe" | "meter" | "progress" => return true,
                    _ => {}
                },
                _ => {}
            }
            below += 1;
        }
        false
    }

    /// Returns the ARIA role.
    pub fn role(&self, node: NodeId) -> String {
        let tag = self.dom.tag(node);
        match self.explicit_role(node) {
            // A text field with the role combobox (an autocomplete) takes text, so it is reported as a textbox.
            Some(role) if role == "combobox" && self.takes_keys(node) => return "textbox".into(),
            Some(role) => return role,
            None => {}
        }
        let role = match (tag, self.input_type(node)) {
            ("a", _) if self.dom.has(node, "href") => "link",
            ("input", kind) if BUTTON_INPUTS.contains(&kind) => "button",
            ("input", "search") => "searchbox",
            ("input", "number") => "spinbutton",
            ("input", "checkbox") => "checkbox",
            ("input", "radio") => "radio",
            ("input", "range") => "slider",
            ("input", "file") => "file",
            ("input" | "textarea", _) => "textbox",
            ("select", _) if self.is_listbox(node) => "listbox",
            ("select", _) => "combobox",
            _ if self.editable(node) => "textbox",
            _ => "button",
        };
        role.into()
    }

    /// Returns the text of a subtree for a name: without hidden parts, form fields and the node `without`, with images as their alternative
    /// text.
    pub fn visible_text(&self, node: NodeId, without: Option<NodeId>) -> String {
        let mut out = String::new();
        self.add_visible_text(node, without, 0, &mut out);
        out
    }

    fn add_visible_text(&self, node: NodeId, without: Option<NodeId>, depth: usize, out: &mut String) {
        if depth > MAX_DEPTH {
            return;
        }
        let dom = &self.dom;
        for child in dom.children(node) {
            let tag = match dom.kind(child) {
                Kind::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Kind::Element { tag, .. } if Some(child) != without => &**tag,
                _ => continue,
            };
            match tag {
                "title" if dom.closest(child, "svg").is_some() => {
                    out.push(' ');
                    out.push_str(&dom.text(child));
                    out.push(' ');
                }
                "select" | "textarea" => {}
                _ if self.hidden(child) || !self.visible(child) => {}
                "br" => out.push(' '),
                "img" => out.push_str(dom.attribute(child, "alt").unwrap_or_default()),
                _ => {
                    let pad = if self.is_block(child) { " " } else { "" };
                    out.push_str(pad);
                    match dom.attribute(child, "aria-label").filter(|label| !label.is_empty()) {
                        Some(label) => out.push_str(label),
                        None => self.add_visible_text(child, without, depth + 1, out),
                    }
                    out.push_str(pad);
                }
            }
        }
    }

    /// Returns the accessible name, with its white space collapsed.
    pub fn name(&self, node: NodeId) -> String {
        let attribute = |name| collapse_whitespace(self.dom.attribute(node, name).unwrap_or_default());
        let labelled = self.labelled_by(node);
        let given = if labelled.is_empty() { attribute("aria-label") } else { collapse_whitespace(&labelled) };
        if !given.is_empty() {
            return given;
        }
        let labels: Vec<String> = self.labels(node).iter().map(|&label| self.visible_text(label, Some(node))).collect();
        let field = matches!(self.dom.tag(node), "select" | "textarea" | "input") || self.editable(node);
        let own = |page: &Self| if field { page.button_text(node) } else { collapse_whitespace(&page.visible_text(node, None)) };
        [collapse_whitespace(&labels.join(" "))]
            .into_iter()
            .chain(std::iter::once_with(|| own(self)))
            .chain(std::iter::once_with(|| attribute("placeholder")))
            .chain(std::iter::once_with(|| attribute("title")))
            .find(|name| !name.is_empty())
            .unwrap_or_default()
    }

    /// Returns the text of the elements that `aria-labelledby` names.
    fn labelled_by(&self, node: NodeId) -> String {
        let ids = self.dom.attribute(node, "aria-labelledby").unwrap_or_default();
        let texts = ids.split_whitespace().filter_map(|id| self.dom.by_id(id)).map(|other| {
            let own = self.dom.attribute(other, "aria-label").map(str::to_owned).filter(|label| !label.is_empty());
            let text = own.unwrap_or_else(|| self.visible_text(other, Some(node)));
            if text.is_empty() { collapse_whitespace(&self.dom.text(other)) } else { collapse_whitespace(&text) }
        });
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Returns the text of a button that is an `input`; empty for other elements.
    fn button_text(&self, node: NodeId) -> String {
        let attribute = |name| self.dom.attribute(node, name).unwrap_or_default();
        match (self.input_type(node), attribute("value")) {
            ("image", _) => collapse_whitespace(attribute("alt")),
            ("submit", "") => "Submit".into(),
            ("reset", "") => "Reset".into(),
            ("submit" | "reset" | "button", value) => collapse_whitespace(value),
            _ => String::new(),
        }
    }

    /// Returns the value that an observation shows; `None` for elements without one and for passwords.
    pub fn shown_value(&self, node: NodeId, role: &str) -> Option<String> {
        if self.input_type(node) == "password" {
            return None;
        }
        if self.takes_keys(node) {
            return Some(self.value(node));
        }
        if self.dom.tag(node) == "select" && role == "combobox" {
            return Some(self.selected(node).first().map(|&option| self.option_text(option)).unwrap_or_default());
        }
        self.editable(node).then(|| collapse_whitespace(&self.visible_text(node, None)))
    }

    /// Returns the states that hold, in the order of an observation.
    pub fn states(&self, node: NodeId) -> Vec<State> {
        let dom = &self.dom;
        let is = |name| dom.attribute(node, name) == Some("true");
        let (tag, kind) = (dom.tag(node), self.input_type(node));
        let checked = if matches!(kind, "checkbox" | "radio") { self.is_checked(node) } else { is("aria-checked") };
        let details = dom.parent(node).filter(|&parent| tag == "summary" && dom.tag(parent) == "details");
        let required = matches!(tag, "input" | "select" | "textarea") && dom.has(node, "required");
        let current = dom.attribute(node, "aria-current").is_some_and(|current| !current.is_empty() && current != "false");
        let holds = [
            (State::Checked, checked),
            (State::Disabled, self.disabled(node) || is("aria-disabled")),
            (State::Expanded, is("aria-expanded") || details.is_some_and(|details| self.is_open(details))),
            (State::Required, required || is("aria-required")),
            (State::Password, kind == "password"),
            (State::Invalid, is("aria-invalid")),
            (State::Selected, is("aria-selected") || current),
        ];
        holds.into_iter().filter(|(_, holds)| *holds).map(|(state, _)| state).collect()
    }
}
