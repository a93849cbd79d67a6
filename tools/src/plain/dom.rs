//! A parsed page as a flat list of nodes in document order, which is small, `Send` and fast to traverse.

use scraper::{Html, Node as Parsed};

/// The index of a node. Indices are in document order.
pub(crate) type NodeId = usize;

/// The maximum nesting that is read; the parser of a browser flattens deeper nesting.
pub(crate) const MAX_DEPTH: usize = 512;

/// The kind of a node.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A run of text.
    Text(String),
    /// An element, with the names of its tag and attributes in lower case.
    Element { tag: Box<str>, attributes: Vec<(Box<str>, Box<str>)> },
    /// The document, a comment or another node without text.
    Other,
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The parent node (the root is its own parent).
    pub parent: NodeId,
    /// The index after the last descendant.
    pub end: NodeId,
    /// The kind of the node.
    pub kind: Kind,
}

/// A parsed document.
#[derive(Clone, Debug)]
pub(crate) struct Dom {
    nodes: Vec<Node>,
}

impl Dom {
    /// Parses an HTML document.
    pub fn parse(html: &str) -> Self {
        let parsed = Html::parse_document(html);
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<NodeId> = Vec::new();
        let root = parsed.tree.root();
        let mut at = root;
        loop {
            let kind = match at.value() {
                Parsed::Text(text) => Kind::Text(text.to_string()),
                Parsed::Element(element) => Kind::Element {
                    tag: element.name().into(),
                    attributes: element.attrs().map(|(name, value)| (name.into(), value.into())).collect(),
                },
                _ => Kind::Other,
            };
            let id = nodes.len();
            nodes.push(Node { parent: open.last().copied().unwrap_or(id), end: id + 1, kind });
            open.push(id);
            if let Some(child) = at.first_child() {
                at = child;
                continue;
            }
            // Go up to the next node that has a sibling.
            let next = loop {
                let end = nodes.len();
                if let Some(id) = open.pop() {
                    nodes[id].end = end;
                }
                match (at.next_sibling(), at.parent()) {
                    (Some(sibling), _) => break Some(sibling),
                    (None, Some(parent)) => at = parent,
                    (None, None) => break None,
                }
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        Self { nodes }
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the kind of a node.
    pub fn kind(&self, node: NodeId) -> &Kind {
        &self.nodes[node].kind
    }

    /// Returns the tag name of an element; empty for other nodes.
    pub fn tag(&self, node: NodeId) -> &str {
        match &self.nodes[node].kind {
            Kind::Element { tag, .. } => tag,
            _ => "",
        }
    }

    /// Returns the value of an attribute.
    pub fn attribute(&self, node: NodeId, name: &str) -> Option<&str> {
        match &self.nodes[node].kind {
            Kind::Element { attributes, .. } => attributes.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value),
            _ => None,
        }
    }

    /// Whether the node has an attribute.
    pub fn has(&self, node: NodeId, name: &str) -> bool {
        self.attribute(node, name).is_some()
    }

    /// Returns the parent; `None` for the root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        (node != 0).then(|| self.nodes[node].parent)
    }

    /// Returns the node and its ancestors, innermost first.
    pub fn with_ancestors(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(node), |&at| self.parent(at))
    }

    /// Returns the children in document order.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let end = self.nodes[node].end;
        let first = (node + 1 < end).then_some(node + 1);
        std::iter::successors(first, move |&child| Some(self.nodes[child].end).filter(|&next| next < end))
    }

    /// Returns the descendants in document order.
    pub fn descendants(&self, node: NodeId) -> std::ops::Range<NodeId> {
        node + 1..self.nodes[node].end
    }

    /// Whether `inner` is `outer` or a descendant of it.
    pub fn contains(&self, outer: NodeId, inner: NodeId) -> bool {
        (outer..self.nodes[outer].end).contains(&inner)
    }

    /// Returns the nearest ancestor with this tag.
    pub fn closest(&self, node: NodeId, tag: &str) -> Option<NodeId> {
        self.with_ancestors(node).skip(1).find(|&at| self.tag(at) == tag)
    }

    /// Returns the first element with this `id` attribute.
    pub fn by_id(&self, id: &str) -> Option<NodeId> {
        (!id.is_empty()).then(|| (0..self.len()).find(|&node| self.attribute(node, "id") == Some(id))).flatten()
    }

    /// Returns the first element with this tag.
    pub fn first(&self, tag: &str) -> Option<NodeId> {
        (0..self.len()).find(|&node| self.tag(node) == tag)
    }

    /// Returns the text of all descendants, with its white space as it is.
    pub fn text(&self, node: NodeId) -> String {
        let mut out = String::new();
        for below in self.descendants(node) {
            if let Kind::Text(text) = self.kind(below) {
                out.push_str(text);
            }
        }
        out
    }
}

/// Replaces each run of white space by one space and trims the ends, as a page's script does with `/\s+/`.
pub(crate) fn collapse_whitespace(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Whether a character is white space for ECMAScript's `\s`.
pub(crate) fn is_space(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}

/// Returns the beginning of a text that has at most `limit` UTF-16 units.
pub(crate) fn first_utf16_units(text: &str, limit: usize) -> String {
    let mut units = 0;
    text.chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= limit
        })
        .collect()
}
