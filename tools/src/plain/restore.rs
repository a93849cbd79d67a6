//! What a browser puts back into the controls of a page that is gone back to (as Chromium's `FormController`).

use std::collections::HashMap;

use super::dom::NodeId;
use super::page::Page;

/// State of one control; `None` where it was as the document had it.
#[derive(Clone, Debug)]
enum Kept {
    Untouched,
    Text(String),
    Ticked(bool),
    Chosen(Vec<String>),
}

/// By what a control is found again: the signature of its form, its name and its type.
type Key = (String, String, &'static str);

/// States of the controls of a page, in document order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FormState(Vec<(Key, Kept)>);

impl Page {
    /// What is in the controls.
    pub fn form_state(&self) -> FormState {
        let mut forms = Forms::default();
        FormState(self.kept_controls().map(|node| (self.key(node, &mut forms), self.kept(node))).collect())
    }

    /// Puts back what was in the controls when the page was left.
    pub fn restore(&mut self, state: FormState) {
        let mut states: Vec<Option<(Key, Kept)>> = state.0.into_iter().map(Some).collect();
        let mut forms = Forms::default();
        for node in self.kept_controls().collect::<Vec<_>>() {
            let key = self.key(node, &mut forms);
            let found = states.iter_mut().find(|state| state.as_ref().is_some_and(|(known, _)| *known == key)).and_then(Option::take);
            match found.map(|(_, kept)| kept) {
                None | Some(Kept::Untouched) => {}
                Some(Kept::Text(value)) => {
                    self.set_value(node, &value);
                }
                Some(Kept::Ticked(true)) => self.check(node),
                Some(Kept::Ticked(false)) => self.clear(node),
                Some(Kept::Chosen(values)) => {
                    let options = self.options(node).into_iter().filter(|&option| values.contains(&self.option_value(option)));
                    let options = if self.dom.has(node, "multiple") { options.collect() } else { options.take(1).collect() };
                    self.set_selected(node, options);
                }
            }
        }
    }

    fn kept_controls(&self) -> impl Iterator<Item = NodeId> + '_ {
        let off = |node: NodeId| self.dom.attribute(node, "autocomplete").map(|value| value.eq_ignore_ascii_case("off"));
        (0..self.dom.len()).filter(move |&node| {
            let kept = match self.dom.tag(node) {
                "select" | "textarea" => true,
                "input" => !matches!(self.input_type(node), "submit" | "button" | "reset" | "image" | "password" | "file" | "hidden"),
                _ => false,
            };
            kept && !off(node).or_else(|| self.form_of(node).and_then(off)).unwrap_or(false)
        })
    }

    fn kept(&self, node: NodeId) -> Kept {
        match (self.dom.tag(node), self.input_type(node)) {
            ("select", _) => match self.selected(node) {
                chosen if chosen.is_empty() => Kept::Untouched,
                chosen => Kept::Chosen(chosen.into_iter().map(|option| self.option_value(option)).collect()),
            },
            (_, "checkbox" | "radio") => Kept::Ticked(self.is_checked(node)),
            _ if self.is_touched(node) => Kept::Text(self.value(node)),
            _ => Kept::Untouched,
        }
    }

    fn key(&self, node: NodeId, forms: &mut Forms) -> Key {
        let kind = if self.dom.tag(node) == "input" {
            self.input_type(node)
        } else if self.dom.tag(node) == "select" {
            "select"
        } else {
            "textarea"
        };
        let form = self.form_of(node).map_or_else(String::new, |form| forms.key(self, form));
        (form, self.dom.attribute(node, "name").unwrap_or_default().to_owned(), kind)
    }

    /// A form's action without its query, and the names of its first two controls.
    fn signature(&self, form: NodeId) -> String {
        let action = self.dom.attribute(form, "action").unwrap_or_default();
        let action = action.split(['?', '#']).next().unwrap_or_default();
        let controls = self.controls_of(form).into_iter().filter(|&node| self.dom.tag(node) != "button");
        let names: Vec<&str> =
            controls.filter_map(|node| self.dom.attribute(node, "name")).filter(|name| !name.is_empty()).take(2).collect();
        format!("{action} [{}]", names.join(" "))
    }
}

/// Forms seen so far: those with equal signatures are told apart by their order.
#[derive(Default)]
struct Forms {
    keys: HashMap<NodeId, String>,
    seen: HashMap<String, usize>,
}

impl Forms {
    fn key(&mut self, page: &Page, form: NodeId) -> String {
        if let Some(key) = self.keys.get(&form) {
            return key.clone();
        }
        let signature = page.signature(form);
        let count = self.seen.entry(signature.clone()).or_default();
        *count += 1;
        let key = format!("{signature} #{count}");
        self.keys.insert(form, key.clone());
        key
    }
}
