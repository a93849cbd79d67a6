//! A loaded page: its document, and the state of its controls (values, checked boxes, selected options, open details).

use std::collections::{HashMap, HashSet};

use url::Url;

use super::dom::{Dom, Kind, NodeId, collapse_whitespace};
use super::value::{normalize_newlines, sanitize};

/// The input types that are buttons.
pub(crate) const BUTTON_INPUTS: [&str; 4] = ["submit", "button", "reset", "image"];

/// The input types of HTML.
const INPUT_TYPES: [&str; 22] = [
    "hidden",
    "text",
    "search",
    "tel",
    "url",
    "email",
    "password",
    "date",
    "month",
    "week",
    "time",
    "datetime-local",
    "number",
    "range",
    "color",
    "checkbox",
    "radio",
    "file",
    "submit",
    "image",
    "reset",
    "button",
];

/// A page and the state of its controls.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The address, with its fragment.
    pub url: Url,
    /// The document.
    pub dom: Dom,
    /// Whether the page answered a submission by POST (such a page cannot be loaded again by its address).
    pub posted: bool,
    /// The control that has the keyboard focus.
    pub focus: Option<NodeId>,
    /// The ids that elements have in observations.
    pub ids: HashMap<NodeId, u32>,
    values: HashMap<NodeId, String>,
    checked: HashSet<NodeId>,
    selected: HashMap<NodeId, Vec<NodeId>>,
    open: HashMap<NodeId, bool>,
    /// The labels of each labelled control, in document order.
    labels: HashMap<NodeId, Vec<NodeId>>,
    /// The control of each label.
    controls: HashMap<NodeId, NodeId>,
}

impl Page {
    /// Parses a document that was loaded from `url`.
    pub fn new(url: Url, html: &str, posted: bool) -> Self {
        let mut page = Self {
            url,
            dom: Dom::parse(html),
            posted,
            focus: None,
            ids: HashMap::new(),
            values: HashMap::new(),
            checked: HashSet::new(),
            selected: HashMap::new(),
            open: HashMap::new(),
            labels: HashMap::new(),
            controls: HashMap::new(),
        };
        for node in 0..page.dom.len() {
            match page.dom.tag(node) {
                "input" if page.dom.has(node, "checked") => page.check(node),
                "label" => {
                    if let Some(control) = page.find_control(node) {
                        page.labels.entry(control).or_default().push(node);
                        page.controls.insert(node, control);
                    }
                }
                _ => {}
            }
            if page.focus.is_none() && page.dom.has(node, "autofocus") && page.focusable(node) {
                page.focus = Some(node);
            }
        }
        page
    }

    /// Returns the document's title.
    pub fn title(&self) -> String {
        // A `title` inside an SVG is the title of the drawing.
        let title = (0..self.dom.len()).find(|&node| self.dom.tag(node) == "title" && self.dom.closest(node, "svg").is_none());
        title.map(|title| collapse_whitespace(&self.dom.text(title))).unwrap_or_default()
    }

    /// Returns the base address of relative addresses.
    pub fn base(&self) -> Url {
        let base = (0..self.dom.len()).find(|&node| self.dom.tag(node) == "base" && self.dom.has(node, "href"));
        base.and_then(|node| self.dom.attribute(node, "href"))
            .and_then(|href| self.url.join(href.trim()).ok())
            .unwrap_or_else(|| self.url.clone())
    }

    /// Returns the delay in seconds and the address of an automatic redirect (`meta http-equiv=refresh`).
    pub fn refresh(&self) -> Option<(u32, Url)> {
        let dom = &self.dom;
        let refreshes = |node: NodeId| dom.attribute(node, "http-equiv").is_some_and(|name| name.eq_ignore_ascii_case("refresh"));
        let meta = (0..dom.len()).find(|&node| dom.tag(node) == "meta" && refreshes(node))?;
        let (delay, target) = dom.attribute(meta, "content")?.split_once([';', ','])?;
        let target = target.trim();
        let target = match target.get(..3).is_some_and(|front| front.eq_ignore_ascii_case("url")) {
            true => target[3..].trim_start().strip_prefix('=')?.trim().trim_matches(['"', '\'']),
            false => target,
        };
        let url = self.base().join(target).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        Some((delay.trim().parse::<f64>().ok()? as u32, url))
    }

    /// Returns the element that has this id in observations.
    pub fn node(&self, id: u32) -> Option<NodeId> {
        self.ids.iter().find(|(_, known)| **known == id).map(|(node, _)| *node)
    }

    /// Returns the type of an `input`, `text` for an unknown type; empty for other elements.
    pub fn input_type(&self, node: NodeId) -> &'static str {
        if self.dom.tag(node) != "input" {
            return "";
        }
        let written = self.dom.attribute(node, "type").unwrap_or("text");
        INPUT_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(written)).unwrap_or("text")
    }

    /// Returns the type of a `button` element: `submit`, `reset` or `button`; empty for other elements.
    pub fn button_type(&self, node: NodeId) -> &'static str {
        if self.dom.tag(node) != "button" {
            return "";
        }
        let written = self.dom.attribute(node, "type").unwrap_or("submit");
        ["reset", "button"].into_iter().find(|known| known.eq_ignore_ascii_case(written)).unwrap_or("submit")
    }

    /// Whether a click on the element submits its form.
    pub fn submits(&self, node: NodeId) -> bool {
        self.button_type(node) == "submit" || matches!(self.input_type(node), "submit" | "image")
    }

    /// Whether keys change the element's value: a text field, a date, a number and so on.
    pub fn takes_keys(&self, node: NodeId) -> bool {
        let kind = self.input_type(node);
        self.dom.tag(node) == "textarea"
            || (!kind.is_empty() && !BUTTON_INPUTS.contains(&kind) && !matches!(kind, "checkbox" | "radio" | "range" | "file" | "hidden"))
    }

    /// Whether the element is editable as rich text.
    pub fn editable(&self, node: NodeId) -> bool {
        self.dom.attribute(node, "contenteditable").is_some_and(|value| !value.eq_ignore_ascii_case("false"))
    }

    /// Whether the element is disabled, itself or by its `fieldset`.
    pub fn disabled(&self, node: NodeId) -> bool {
        let dom = &self.dom;
        if !matches!(dom.tag(node), "button" | "input" | "select" | "textarea" | "fieldset") {
            return false;
        }
        if dom.has(node, "disabled") {
            return true;
        }
        dom.with_ancestors(node).skip(1).filter(|&at| dom.tag(at) == "fieldset" && dom.has(at, "disabled")).any(|fieldset| {
            // Controls in the first legend of a disabled `fieldset` stay enabled.
            !dom.children(fieldset).find(|&child| dom.tag(child) == "legend").is_some_and(|legend| dom.contains(legend, node))
        })
    }

    /// Returns the form of a control.
    pub fn form_of(&self, node: NodeId) -> Option<NodeId> {
        match self.dom.attribute(node, "form") {
            Some(id) => self.dom.by_id(id).filter(|&form| self.dom.tag(form) == "form"),
            None => self.dom.closest(node, "form"),
        }
    }

    /// Returns the controls of a form in document order.
    pub fn controls_of(&self, form: NodeId) -> Vec<NodeId> {
        (0..self.dom.len())
            .filter(|&node| matches!(self.dom.tag(node), "button" | "input" | "select" | "textarea") && self.form_of(node) == Some(form))
            .collect()
    }

    /// Returns the current value of an `input` or `textarea`.
    pub fn value(&self, node: NodeId) -> String {
        if let Some(value) = self.values.get(&node) {
            return value.clone();
        }
        if self.dom.tag(node) == "textarea" {
            return normalize_newlines(&self.dom.text(node));
        }
        self.sanitized(node, self.dom.attribute(node, "value").unwrap_or_default())
    }

    /// Returns the value that the field keeps when it is set to `value`.
    pub fn sanitized(&self, node: NodeId, value: &str) -> String {
        match self.dom.tag(node) {
            "textarea" => normalize_newlines(value),
            _ => sanitize(self.input_type(node), value, |name| self.dom.attribute(node, name)),
        }
    }

    /// Sets a field to `value`; returns the value that it keeps.
    pub fn set_value(&mut self, node: NodeId, value: &str) -> String {
        let kept = self.sanitized(node, value);
        self.values.insert(node, kept.clone());
        kept
    }

    /// Whether a checkbox or radio button is checked.
    pub fn is_checked(&self, node: NodeId) -> bool {
        self.checked.contains(&node)
    }

    /// Checks a checkbox or radio button, and clears the other radio buttons of its group.
    pub fn check(&mut self, node: NodeId) {
        if self.input_type(node) == "radio" {
            for other in self.radio_group(node) {
                self.checked.remove(&other);
            }
        }
        self.checked.insert(node);
    }

    /// Checks or clears a checkbox.
    pub fn toggle(&mut self, node: NodeId) {
        if !self.checked.remove(&node) {
            self.checked.insert(node);
        }
    }

    /// Clears a checkbox or radio button.
    pub fn clear(&mut self, node: NodeId) {
        self.checked.remove(&node);
    }

    /// Whether a field's value was set since the page was loaded.
    pub fn is_value_set(&self, node: NodeId) -> bool {
        self.values.contains_key(&node)
    }

    /// Returns the radio buttons of the group of a radio button, itself included.
    pub fn radio_group(&self, node: NodeId) -> Vec<NodeId> {
        let name = self.dom.attribute(node, "name").filter(|name| !name.is_empty());
        let Some(name) = name else { return vec![node] };
        let form = self.form_of(node);
        (0..self.dom.len())
            .filter(|&other| {
                self.dom.attribute(other, "name") == Some(name) && self.input_type(other) == "radio" && self.form_of(other) == form
            })
            .collect()
    }

    /// Returns the options of a `select`, in document order.
    pub fn options(&self, select: NodeId) -> Vec<NodeId> {
        self.dom.descendants(select).filter(|&node| self.dom.tag(node) == "option").collect()
    }

    /// Whether an option is disabled, itself or by its `optgroup`.
    pub fn option_disabled(&self, option: NodeId) -> bool {
        self.dom.has(option, "disabled")
            || self.dom.parent(option).is_some_and(|group| self.dom.tag(group) == "optgroup" && self.dom.has(group, "disabled"))
    }

    /// Returns the value that an option submits.
    pub fn option_value(&self, option: NodeId) -> String {
        self.dom.attribute(option, "value").map_or_else(|| self.option_text(option), str::to_owned)
    }

    /// Returns the text of an option.
    pub fn option_text(&self, option: NodeId) -> String {
        let mut out = String::new();
        for below in self.dom.descendants(option) {
            let scripted = || self.dom.with_ancestors(below).take_while(|&at| at != option).any(|at| self.dom.tag(at) == "script");
            if let Kind::Text(text) = self.dom.kind(below)
                && !scripted()
            {
                out.push_str(text);
            }
        }
        collapse_whitespace(&out)
    }

    /// Whether a `select` is a list box, which shows several options at once.
    pub fn is_listbox(&self, select: NodeId) -> bool {
        let size = self.dom.attribute(select, "size").and_then(|size| size.trim().parse::<u32>().ok()).unwrap_or(0);
        self.dom.has(select, "multiple") || size > 1
    }

    /// Returns the selected options of a `select`.
    pub fn selected(&self, select: NodeId) -> Vec<NodeId> {
        if let Some(selected) = self.selected.get(&select) {
            return selected.clone();
        }
        let options = self.options(select);
        let marked: Vec<NodeId> = options.iter().copied().filter(|&option| self.dom.has(option, "selected")).collect();
        if self.dom.has(select, "multiple") {
            return marked;
        }
        match marked.last() {
            Some(&last) => vec![last],
            None if self.is_listbox(select) => Vec::new(),
            None => options.into_iter().find(|&option| !self.option_disabled(option)).into_iter().collect(),
        }
    }

    /// Selects an option, in addition to the others where the `select` is a multiple one.
    pub fn select(&mut self, select: NodeId, option: NodeId) {
        let mut selected = if self.dom.has(select, "multiple") { self.selected(select) } else { Vec::new() };
        if !selected.contains(&option) {
            selected.push(option);
            selected.sort_unstable();
        }
        self.selected.insert(select, selected);
    }

    /// Selects these options and no others.
    pub fn set_selected(&mut self, select: NodeId, options: Vec<NodeId>) {
        self.selected.insert(select, options);
    }

    /// Whether a `details` element is open.
    pub fn is_open(&self, details: NodeId) -> bool {
        self.open.get(&details).copied().unwrap_or_else(|| self.dom.has(details, "open"))
    }

    /// Opens or closes a `details` element. Opening one closes the others of its named group.
    pub fn toggle_details(&mut self, details: NodeId) {
        let open = !self.is_open(details);
        let group = self.dom.attribute(details, "name").filter(|name| !name.is_empty());
        let others: Vec<NodeId> = (0..self.dom.len())
            .filter(|&node| {
                open && node != details && group.is_some() && self.dom.tag(node) == "details" && self.dom.attribute(node, "name") == group
            })
            .collect();
        self.open.extend(others.into_iter().map(|node| (node, false)));
        self.open.insert(details, open);
    }

    /// Resets the controls of a form to their state in the document.
    pub fn reset(&mut self, form: NodeId) {
        let controls = self.controls_of(form);
        for &node in &controls {
            self.values.remove(&node);
            self.selected.remove(&node);
            self.checked.remove(&node);
        }
        for node in controls {
            if self.dom.tag(node) == "input" && self.dom.has(node, "checked") {
                self.check(node);
            }
        }
    }

    /// Returns the labels of a control, in document order.
    pub fn labels(&self, control: NodeId) -> &[NodeId] {
        self.labels.get(&control).map_or(&[], Vec::as_slice)
    }

    /// Returns the control of a label.
    pub fn control(&self, label: NodeId) -> Option<NodeId> {
        self.controls.get(&label).copied()
    }

    /// Whether the element can have the keyboard focus.
    pub fn focusable(&self, node: NodeId) -> bool {
        let index = self.dom.attribute(node, "tabindex").and_then(|index| index.trim().parse::<i32>().ok());
        match self.dom.tag(node) {
            "" => false,
            "button" | "input" | "select" | "textarea" => self.input_type(node) != "hidden" && !self.disabled(node),
            "a" if self.dom.has(node, "href") => true,
            "summary" => true,
            _ => index.is_some() || self.editable(node),
        }
    }

    fn find_control(&self, label: NodeId) -> Option<NodeId> {
        let labelable = |node: NodeId| match self.dom.tag(node) {
            "input" => self.input_type(node) != "hidden",
            tag => matches!(tag, "button" | "meter" | "output" | "progress" | "select" | "textarea"),
        };
        match self.dom.attribute(label, "for") {
            Some(id) => self.dom.by_id(id).filter(|&node| labelable(node)),
            None => self.dom.descendants(label).find(|&node| labelable(node)),
        }
    }
}
