//! Restores the state of a page's controls when a browser goes back to the page (as Chromium's `FormController`).

use std::collections::HashMap;

use super::dom::NodeId;
use super::page::Page;

/// The state of one control.
#[derive(Clone, Debug)]
enum ControlState {
    /// The state that the document gives.
    Unchanged,
    /// The value of a text field.
    Text(String),
    /// Whether a checkbox or radio button is checked.
    Checked(bool),
    /// The values of the selected options.
    Selected(Vec<String>),
}

/// The key that identifies a control when the page is loaded again: the signature of its form, its name and its type.
type ControlKey = (String, String, &'static str);

/// The states of the controls of a page, in document order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FormState(Vec<(ControlKey, ControlState)>);

impl Page {
    /// Returns the state of the controls, to be restored later.
    pub fn form_state(&self) -> FormState {
        let mut forms = FormSignatures::default();
        FormState(self.restorable_controls().map(|node| (self.key(node, &mut forms), self.control_state(node))).collect())
    }

    /// Restores the state that the controls had when the page was left.
    pub fn restore(&mut self, state: FormState) {
        let mut states: Vec<Option<(ControlKey, ControlState)>> = state.0.into_iter().map(Some).collect();
        let mut forms = FormSignatures::default();
        for node in self.restorable_controls().collect::<Vec<_>>() {
            let key = self.key(node, &mut forms);
            let found = states.iter_mut().find(|state| state.as_ref().is_some_and(|(known, _)| *known == key)).and_then(Option::take);
            match found.map(|(_, state)| state) {
                None | Some(ControlState::Unchanged) => {}
                Some(ControlState::Text(value)) => {
                    self.set_value(node, &value);
                }
                Some(ControlState::Checked(true)) => self.check(node),
                Some(ControlState::Checked(false)) => self.clear(node),
                Some(ControlState::Selected(values)) => {
                    let options = self.options(node).into_iter().filter(|&option| values.contains(&self.option_value(option)));
                    let options = if self.dom.has(node, "multiple") { options.collect() } else { options.take(1).collect() };
                    self.set_selected(node, options);
                }
            }
        }
    }

    /// Returns the controls whose state is restored: none that hold passwords or files, are hidden, or have `autocomplete=off`.
    fn restorable_controls(&self) -> impl Iterator<Item = NodeId> + '_ {
        let off = |node: NodeId| self.dom.attribute(node, "autocomplete").map(|value| value.eq_ignore_ascii_case("off"));
        (0..self.dom.len()).filter(move |&node| {
            let restorable = match self.dom.tag(node) {
                "select" | "textarea" => true,
                "input" => !matches!(self.input_type(node), "submit" | "button" | "reset" | "image" | "password" | "file" | "hidden"),
                _ => false,
            };
            restorable && !off(node).or_else(|| self.form_of(node).and_then(off)).unwrap_or(false)
        })
    }

    /// Returns the state of a control.
    fn control_state(&self, node: NodeId) -> ControlState {
        match (self.dom.tag(node), self.input_type(node)) {
            ("select", _) => match self.selected(node) {
                selected if selected.is_empty() => ControlState::Unchanged,
                selected => ControlState::Selected(selected.into_iter().map(|option| self.option_value(option)).collect()),
            },
            (_, "checkbox" | "radio") => ControlState::Checked(self.is_checked(node)),
            _ if self.is_value_set(node) => ControlState::Text(self.value(node)),
            _ => ControlState::Unchanged,
        }
    }

    /// Returns the key that identifies a control when the page is loaded again.
    fn key(&self, node: NodeId, forms: &mut FormSignatures) -> ControlKey {
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

    /// Returns the signature of a form: its action without the query, and the names of its first two controls.
    fn signature(&self, form: NodeId) -> String {
        let action = self.dom.attribute(form, "action").unwrap_or_default();
        let action = action.split(['?', '#']).next().unwrap_or_default();
        let controls = self.controls_of(form).into_iter().filter(|&node| self.dom.tag(node) != "button");
        let names: Vec<&str> =
            controls.filter_map(|node| self.dom.attribute(node, "name")).filter(|name| !name.is_empty()).take(2).collect();
        format!("{action} [{}]", names.join(" "))
    }
}

/// The signatures of the forms of a page. Forms with equal signatures get numbers in their order.
#[derive(Default)]
struct FormSignatures {
    keys: HashMap<NodeId, String>,
    seen: HashMap<String, usize>,
}

impl FormSignatures {
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
