//! Turns a page into an observation: traverses the body in document order by the same rules as `browser/observe.js`.

use milepost_runtime::{Element, Observation};

use super::dom::{Kind, MAX_DEPTH, NodeId, collapse_whitespace, first_utf16_units};
use super::page::Page;

// The limits are those of the browser's script; lengths are in UTF-16 units, as in JavaScript.
const MAX_ELEMENTS: usize = 400;
const MAX_CHARACTERS: usize = 20_000;
const MAX_NAME: usize = 300;
const MAX_VALUE: usize = 2_000;
const MAX_OPTIONS: usize = 40;

/// Facts about the ancestors of the node that is being visited.
#[derive(Clone, Copy, Default)]
struct Context {
    /// Whether the node is inside an element that can be acted on.
    inside: bool,
    /// Whether the node is inside the label of a control.
    label: bool,
    /// Whether text is skipped.
    skip_text: bool,
    /// The nesting below the body.
    depth: usize,
}

/// Reads a page. Elements that are read for the first time get the next ids.
pub(crate) fn read(page: &mut Page) -> Observation {
    let ids = std::mem::take(&mut page.ids);
    let mut reader = Reader { page, ids, elements: Vec::new(), text: TextBuilder::default(), truncated: false };
    if let Some(body) = reader.page.dom.first("body") {
        reader.visit(body, Context::default());
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

/// Builds the text, line by line. An element's marker is enclosed in control characters until the line ends, so that text of the page
/// cannot imitate one.
#[derive(Default)]
struct TextBuilder {
    /// The complete lines.
    lines: String,
    /// The current line.
    line: String,
    /// The length of the complete lines in UTF-16 units.
    length: usize,
    /// The number of table cells around the current node; inside a cell a line does not end.
    cells: usize,
    truncated: bool,
}

impl TextBuilder {
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
        let line = collapse_whitespace(&std::mem::take(&mut self.line)).replace("[#", "[ #").replace('\u{1}', "[#").replace('\u{2}', "]");
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

/// The state of the traversal.
struct Reader<'a> {
    page: &'a Page,
    ids: std::collections::HashMap<NodeId, u32>,
    elements: Vec<Element>,
    text: TextBuilder,
    truncated: bool,
}

impl Reader<'_> {
    /// Reads an element and its descendants unless they are hidden.
    fn visit(&mut self, node: NodeId, context: Context) {
        if self.text.length >= MAX_CHARACTERS || context.depth > MAX_DEPTH {
            self.truncated = true;
            return;
        }
        let page = self.page;
        let tag = page.dom.tag(node);
        if page.hidden(node) {
            return;
        }
        if tag == "br" {
            if !context.inside {
                self.text.end_line();
            }
            return;
        }
        let block = !context.inside && !matches!(tag, "td" | "th") && page.is_block(node);
        if block {
            self.text.end_line();
        }
        self.visit_shown(node, tag, context);
        if block {
            self.text.end_line();
        }
    }

    fn visit_shown(&mut self, node: NodeId, tag: &str, context: Context) {
        let page = self.page;
        if matches!(tag, "iframe" | "frame") {
            self.text.end_line();
            return;
        }
        let visible = page.visible(node);
        let next = Context { skip_text: context.inside || context.label || !visible, depth: context.depth + 1, ..context };
        if visible && page.is_control(node, context.inside) {
            if !page.is_sized(node) {
                return;
            }
            self.add_element(node, None);
            if !matches!(tag, "input" | "select" | "textarea") && !page.editable(node) {
                self.visit_children(node, Context { inside: true, skip_text: true, ..next });
            }
            return;
        }
        match (tag, page.control(node)) {
            ("label", Some(control)) => {
                // A control that is not drawn is acted on through its label.
                if !context.inside && visible && page.not_rendered(control) && page.dom.tag(control) == "input" {
                    self.add_element(node, Some(control));
                } else {
                    self.visit_children(node, Context { label: true, skip_text: true, ..next });
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

    fn visit_children(&mut self, node: NodeId, context: Context) {
        let page = self.page;
        for child in page.dom.children(node) {
            match page.dom.kind(child) {
                Kind::Element { .. } => self.visit(child, context),
                Kind::Text(text) if !context.skip_text => self.text.add(text),
                _ => {}
            }
        }
    }

    /// Reads a table row as one line, with a bar between the cells.
    fn visit_row(&mut self, row: NodeId, context: Context) {
        let page = self.page;
        if !context.inside {
            self.text.end_line();
        }
        let cells = page.dom.children(row).filter(|&child| matches!(page.dom.kind(child), Kind::Element { .. }));
        for (index, cell) in cells.enumerate() {
            if index > 0 && !context.skip_text {
                self.text.add(" | ");
            }
            self.text.cells += 1;
            self.visit(cell, context);
            self.text.cells -= 1;
        }
    }

    /// Adds an element. Where `control` is given, the node is its label and stands for it, because the control itself is not drawn.
    fn add_element(&mut self, node: NodeId, control: Option<NodeId>) {
        if self.elements.len() >= MAX_ELEMENTS {
            self.truncated = true;
            return;
        }
        let page = self.page;
        let next = u32::try_from(self.ids.len() + 1).unwrap_or(u32::MAX);
        let id = *self.ids.entry(node).or_insert(next);
        let source = control.unwrap_or(node);
        let role = page.role(source);
        let name = if control.is_some() { collapse_whitespace(&page.visible_text(node, control)) } else { page.name(node) };
        let name = self.truncate(name, MAX_NAME);
        let value = page.shown_value(source, &role).map(|value| self.truncate(value, MAX_VALUE));
        let options = match page.dom.tag(source) {
            "select" => page.options(source).into_iter().take(MAX_OPTIONS).map(|option| page.option_text(option)).collect(),
            _ => Vec::new(),
        };
        self.elements.push(Element { id, role, name, value, options, state: page.states(source), ..Element::default() });
        self.text.mark(id);
    }

    /// Cuts a text to `limit` UTF-16 units.
    fn truncate(&mut self, text: String, limit: usize) -> String {
        if text.len() <= limit || text.encode_utf16().count() <= limit {
            return text;
        }
        self.truncated = true;
        first_utf16_units(&text, limit)
    }
}
