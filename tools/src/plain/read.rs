//! The page as an observation: a walk of the body in document order, by the same rules as `browser/observe.js`.

use milepost_runtime::{Element, Observation};

use super::dom::{Kind, NodeId, fold};
use super::page::Page;

/// Deepest nesting that is read; a browser's parser flattens what lies deeper.
pub(crate) const DEEPEST: usize = 512;

const MAX_ELEMENTS: usize = 400;
const MAX_CHARACTERS: usize = 20_000;
const MAX_NAME: usize = 300;
const MAX_VALUE: usize = 2_000;
const MAX_OPTIONS: usize = 40;

/// Where the walk stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Inside an element to act on.
    inside: bool,
    /// Inside the label of a control.
    label: bool,
    /// Text is not read here.
    muted: bool,
    depth: usize,
}

/// Reads a page. Elements seen for the first time get the next ids.
pub(crate) fn read(page: &mut Page) -> Observation {
    let ids = std::mem::take(&mut page.ids);
    let mut reader = Reader { page, ids, elements: Vec::new(), text: Text::default(), truncated: false };
    if let Some(body) = reader.page.dom.first("body") {
        reader.visit(body, Place::default());
    }
    reader.text.end_line();
    let Reader { ids, elements, text, truncated, .. } = reader;
    page.ids = ids;
    Observation {
        url: page.url.to_string(),
        title: page.title(),
        elements,
        text: text.lines,
        truncated: truncated || text.truncated,
        ..Observation::default()
    }
}

/// The text as it is built; markers stand between control characters, so that page text cannot forge one.
#[derive(Default)]
struct Text {
    lines: String,
    line: String,
    length: usize,
    cells: usize,
    truncated: bool,
}

impl Text {
    fn add(&mut self, text: &str) {
        self.line.extend(text.chars().filter(|c| !matches!(c, '\u{1}' | '\u{2}')));
    }

    fn mark(&mut self, id: u32) {
        self.line.push_str(&format!("\u{1}{id}\u{2}"));
    }

    fn end_line(&mut self) {
        if self.cells > 0 {
            self.line.push(' ');
            return;
        }
        let line = fold(&std::mem::take(&mut self.line)).replace("[#", "[ #").replace('\u{1}', "[#").replace('\u{2}', "]");
        if line.is_empty() {
            return;
        }
        let length = line.encode_utf16().count();
        if self.length + length > MAX_CHARACTERS {
            (self.truncated, self.length) = (true, MAX_CHARACTERS);
            return;
        }
        self.length += length + 1;
        if !self.lines.is_empty() {
            self.lines.push('\n');
        }
        self.lines.push_str(&line);
    }
}

struct Reader<'a> {
    page: &'a Page,
    ids: std::collections::HashMap<NodeId, u32>,
    elements: Vec<Element>,
    text: Text,
    truncated: bool,
}

impl Reader<'_> {
    fn visit(&mut self, node: NodeId, place: Place) {
        if self.text.length >= MAX_CHARACTERS || place.depth > DEEPEST {
            self.truncated = true;
            return;
        }
        let page = self.page;
        let tag = page.dom.tag(node);
        if page.hidden(node) {
            return;
        }
        if tag == "br" {
            if !place.inside {
                self.text.end_line();
            }
            return;
        }
        let block = !place.inside && !matches!(tag, "td" | "th") && page.is_block(node);
        if block {
            self.text.end_line();
        }
        self.visit_shown(node, tag, place);
        if block {
            self.text.end_line();
        }
    }

    fn visit_shown(&mut self, node: NodeId, tag: &str, place: Place) {
        let page = self.page;
        if matches!(tag, "iframe" | "frame") {
            self.text.end_line();
            return;
        }
        let visible = page.visible(node);
        let next = Place { muted: place.inside || place.label || !visible, depth: place.depth + 1, ..place };
        if visible && page.is_control(node, place.inside) {
            if !page.is_sized(node) {
                return;
            }
            self.register(node, None);
            if !matches!(tag, "input" | "select" | "textarea") && !page.editable(node) {
                self.visit_children(node, Place { inside: true, muted: true, ..next });
            }
            return;
        }
        match (tag, page.control(node)) {
            ("label", Some(control)) => {
                // A control that is styled away is worked through its label.
                if !place.inside && visible && page.out_of_view(control) && page.dom.tag(control) == "input" {
                    self.register(node, Some(control));
                } else {
                    self.visit_children(node, Place { label: true, muted: true, ..next });
                }
            }
            ("tr", _) => self.visit_row(node, next),
            ("details", _) if !page.is_open(node) => {
                if let Some(summary) = page.summary_of(node) {
                    self.visit(summary, next);
                }
            }
            _ => self.visit_children(node, next),
        }
    }

    fn visit_children(&mut self, node: NodeId, place: Place) {
        let page = self.page;
        for child in page.dom.children(node) {
            match page.dom.kind(child) {
                Kind::Element { .. } => self.visit(child, place),
                Kind::Text(text) if !place.muted => self.text.add(text),
                _ => {}
            }
        }
    }

    fn visit_row(&mut self, row: NodeId, place: Place) {
        let page = self.page;
        if !place.inside {
            self.text.end_line();
        }
        let cells = page.dom.children(row).filter(|&child| matches!(page.dom.kind(child), Kind::Element { .. }));
        for (index, cell) in cells.enumerate() {
            if index > 0 && !place.muted {
                self.text.add(" | ");
            }
            self.text.cells += 1;
            self.visit(cell, place);
            self.text.cells -= 1;
        }
    }

    /// Adds an element; a label that stands for an unseen control is read as that control.
    fn register(&mut self, node: NodeId, proxied: Option<NodeId>) {
        if self.elements.len() >= MAX_ELEMENTS {
            self.truncated = true;
            return;
        }
        let page = self.page;
        let next = u32::try_from(self.ids.len() + 1).unwrap_or(u32::MAX);
        let id = *self.ids.entry(node).or_insert(next);
        let source = proxied.unwrap_or(node);
        let role = page.role(source);
        let name = if proxied.is_some() { fold(&page.content(node, proxied)) } else { page.name(node) };
        let name = self.cut(name, MAX_NAME);
        let value = page.shown_value(source, &role).map(|value| self.cut(value, MAX_VALUE));
        let options = match page.dom.tag(source) {
            "select" => page.options(source).into_iter().take(MAX_OPTIONS).map(|option| page.option_text(option)).collect(),
            _ => Vec::new(),
        };
        self.elements.push(Element { id, role, name, value, options, state: page.states(source), ..Element::default() });
        self.text.mark(id);
    }

    fn cut(&mut self, text: String, limit: usize) -> String {
        if text.len() <= limit || text.encode_utf16().count() <= limit {
            return text;
        }
        self.truncated = true;
        let mut units = 0;
        text.chars()
            .take_while(|c| {
                units += c.len_utf16();
                units <= limit
            })
            .collect()
    }
}
