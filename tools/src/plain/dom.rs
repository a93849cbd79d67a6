//! A parsed page as a flat list of nodes in document order: small, `Send`, and quick to walk.

use scraper::{Html, Node as Parsed};

/// Index of a node; document order is index order.
pub(crate) type NodeId = usize;

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A run of text.
    Text(String),
    /// An element: tag name and attributes, lower case.
    Element { tag: Box<str>, attributes: Vec<(Box<str>, Box<str>)> },
    /// The document, a comment or another node without text.
    Other,
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The node that holds it (the root holds itself).
    pub parent: NodeId,
    /// One past its last descendant.
    pub end: NodeId,
    /// What it is.
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
            // Up to the next node that has a sibling.
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

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What a node is.
    pub fn kind(&self, node: NodeId) -> &Kind {
        &self.nodes[node].kind
    }

    /// Tag name; empty for other nodes.
    pub fn tag(&self, node: NodeId) -> &str {
        match &self.nodes[node].kind {
            Kind::Element { tag, .. } => tag,
            _ => "",
        }
    }

    /// An attribute's value.
    pub fn attribute(&self, node: NodeId, name: &str) -> Option<&str> {
        match &self.nodes[node].kind {
            Kind::Element { attributes, .. } => attributes.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value),
            _ => None,
        }
    }

    /// Whether an attribute is there.
    pub fn has(&self, node: NodeId, name: &str) -> bool {
        self.attribute(node, name).is_some()
    }

    /// The parent, unless the node is the root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        (node != 0).then(|| self.nodes[node].parent)
    }

    /// The node and what holds it, inside out.
    pub fn with_ancestors(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(node), |&at| self.parent(at))
    }

    /// Direct children in order.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let end = self.nodes[node].end;
        let first = (node + 1 < end).then_some(node + 1);
        std::iter::successors(first, move |&child| Some(self.nodes[child].end).filter(|&next| next < end))
    }

    /// All nodes below, in document order.
    pub fn descendants(&self, node: NodeId) -> std::ops::Range<NodeId> {
        node + 1..self.nodes[node].end
    }

    /// Whether `inner` is `outer` or lies below it.
    pub fn holds(&self, outer: NodeId, inner: NodeId) -> bool {
        (outer..self.nodes[outer].end).contains(&inner)
    }

    /// The nearest holder with this tag.
    pub fn closest(&self, node: NodeId, tag: &str) -> Option<NodeId> {
        self.with_ancestors(node).skip(1).find(|&at| self.tag(at) == tag)
    }

    /// The element with this `id` attribute.
    pub fn by_id(&self, id: &str) -> Option<NodeId> {
        (!id.is_empty()).then(|| (0..self.len()).find(|&node| self.attribute(node, "id") == Some(id))).flatten()
    }

    /// The first element with this tag.
    pub fn first(&self, tag: &str) -> Option<NodeId> {
        (0..self.len()).find(|&node| self.tag(node) == tag)
    }

    /// All text below, unfolded.
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

/// Folds white space as a page's script would (`/\s+/`): single spaces, trimmed.
pub(crate) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// White space of ECMAScript's `\s`.
pub(crate) fn is_space(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}
