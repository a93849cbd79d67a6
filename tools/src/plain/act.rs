//! The effect of an action on a page: on its controls, or a navigation to another page.

use milepost_runtime::{Key, Outcome, Result};
use url::Url;

use super::dom::{NodeId, collapse_whitespace, first_utf16_units};
use super::form::Submission;
use super::page::Page;

/// The effect of an action beyond the controls of the page.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The page stays open.
    Stay,
    /// A link to this address is followed.
    Follow(Url),
    /// A form is submitted.
    Submit(Submission),
}

impl Page {
    /// Clicks an element.
    ///
    /// # Errors
    /// The click submits a form that cannot be sent (see [`Page::submission`]).
    pub fn click(&mut self, node: NodeId) -> Result<Effect> {
        self.focus = self.dom.with_ancestors(node).find(|&at| self.focusable(at));
        for at in self.dom.with_ancestors(node).collect::<Vec<_>>() {
            match self.dom.tag(at) {
                "button" | "input" => return self.activate(at),
                "select" | "textarea" => return Ok(Effect::Stay),
                "a" if self.dom.has(at, "href") => return Ok(self.link(at)),
                "summary" => {
                    if let Some(details) =
                        self.dom.parent(at).filter(|&parent| self.dom.tag(parent) == "details" && self.summary_of(parent) == Some(at))
                    {
                        self.toggle_details(details);
                        return Ok(Effect::Stay);
                    }
                }
                "label" => {
                    let Some(control) = self.control(at).filter(|&control| !self.disabled(control)) else { return Ok(Effect::Stay) };
                    if self.focusable(control) {
                        self.focus = Some(control);
                    }
                    return self.activate(control);
                }
                _ => {}
            }
        }
        Ok(Effect::Stay)
    }

    /// Presses a key, which goes to the focused element.
    ///
    /// # Errors
    /// The key submits a form that cannot be sent (see [`Page::submission`]).
    pub fn press(&mut self, key: Key) -> Result<Effect> {
        match (key, self.focus) {
            (Key::Enter, Some(node)) => return self.press_enter(node),
            (Key::Tab, focus) => {
                let after = focus.map_or(0, |node| node + 1);
                self.focus = (after..self.dom.len()).find(|&node| self.focusable(node) && !self.not_rendered(node));
            }
            (Key::Backspace, Some(node)) if self.takes_keys(node) && !self.dom.has(node, "readonly") => {
                let mut value = self.value(node);
                value.pop();
                self.set_value(node, &value);
            }
            (Key::ArrowDown | Key::ArrowRight, Some(node)) => self.press_arrow(node, 1),
            (Key::ArrowUp | Key::ArrowLeft, Some(node)) => self.press_arrow(node, -1),
            _ => {}
        }
        Ok(Effect::Stay)
    }

    /// Returns the maximum number of UTF-16 units that a field takes, if it has one.
    pub fn max_length(&self, node: NodeId) -> Option<usize> {
        self.dom.attribute(node, "maxlength").and_then(|limit| limit.trim().parse().ok()).filter(|&limit| limit > 0)
    }

    /// Replaces the content of a field. `id` is for the message of a refusal.
    pub fn fill(&mut self, node: NodeId, id: u32, text: &str) -> Outcome {
        let kind = self.input_type(node);
        let refused = |reason: String| Outcome::failed(format!("element {id} {reason}"));
        if self.disabled(node) {
            return refused("is disabled".into());
        }
        if matches!(self.dom.tag(node), "input" | "textarea") && self.dom.has(node, "readonly") {
            return refused("is read-only".into());
        }
        if !self.takes_keys(node) && kind != "range" {
            return Outcome::failed(format!("invalid: element {id} takes no text"));
        }
        self.focus = Some(node);
        let text_that_fits = self.max_length(node).map_or_else(|| text.to_owned(), |limit| first_utf16_units(text, limit));
        let kept = self.set_value(node, &text_that_fits);
        if !text.is_empty() && kept.is_empty() {
            let form = match kind {
                "date" => ", write 2024-12-31",
                "time" => ", write 23:59",
                _ => "",
            };
            return refused(format!("takes no such text (it is a {kind} field{form})"));
        }
        Outcome::done()
    }

    /// Selects an option by its text. `id` is for the message of a refusal.
    pub fn choose(&mut self, node: NodeId, id: u32, option: &str) -> Outcome {
        if self.dom.tag(node) != "select" {
            return Outcome::failed(format!("invalid: element {id} has no options to select"));
        }
        if self.disabled(node) {
            return Outcome::failed(format!("element {id} is disabled"));
        }
        let wanted = collapse_whitespace(option);
        let Some(found) = self.options(node).into_iter().find(|&one| self.option_text(one) == wanted) else {
            return Outcome::failed(format!("invalid: element {id} has no option {option:?}"));
        };
        if self.option_disabled(found) {
            return Outcome::failed(format!("element {id} has the option {option:?}, but it is disabled"));
        }
        self.focus = Some(node);
        self.select(node, found);
        Outcome::done()
    }

    /// Returns the effect of a click on a link.
    fn link(&self, node: NodeId) -> Effect {
        let href = self.dom.attribute(node, "href").unwrap_or_default();
        match self.base().join(href.trim()) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Effect::Follow(url),
            _ => Effect::Stay,
        }
    }

    /// Carries out the effect of a click on a button or input.
    fn activate(&mut self, node: NodeId) -> Result<Effect> {
        if self.disabled(node) {
            return Ok(Effect::Stay);
        }
        match (self.input_type(node), self.button_type(node)) {
            ("checkbox", _) => self.toggle(node),
            ("radio", _) => self.check(node),
            ("reset", _) | (_, "reset") => {
                if let Some(form) = self.form_of(node) {
                    self.reset(form);
                }
            }
            _ if self.submits(node) => return self.submit(node),
            _ => {}
        }
        Ok(Effect::Stay)
    }

    /// Submits the form of a button.
    fn submit(&mut self, submitter: NodeId) -> Result<Effect> {
        let Some(form) = self.form_of(submitter) else { return Ok(Effect::Stay) };
        let unchecked = self.dom.has(form, "novalidate") || self.dom.has(submitter, "formnovalidate");
        self.submit_form(form, Some(submitter), unchecked)
    }

    /// Submits a form, unless a control is invalid: then that control gets the focus. `unchecked` skips the validation.
    fn submit_form(&mut self, form: NodeId, submitter: Option<NodeId>, unchecked: bool) -> Result<Effect> {
        if let Some(invalid) = self.first_invalid(form).filter(|_| !unchecked) {
            self.focus = Some(invalid).filter(|&node| self.focusable(node));
            return Ok(Effect::Stay);
        }
        Ok(self.submission(form, submitter)?.map_or(Effect::Stay, Effect::Submit))
    }

    /// Presses Enter in an element.
    fn press_enter(&mut self, node: NodeId) -> Result<Effect> {
        match (self.dom.tag(node), self.input_type(node)) {
            ("textarea", _) if !self.dom.has(node, "readonly") => {
                let value = self.value(node) + "\n";
                self.set_value(node, &value);
                Ok(Effect::Stay)
            }
            ("a" | "button" | "summary", _) | ("input", "submit" | "image" | "reset" | "button") => self.click(node),
            ("input", "file") | ("select" | "textarea", _) => Ok(Effect::Stay),
            ("input", kind) => self.submit_implicitly(node, submits_alone(kind)),
            _ => Ok(Effect::Stay),
        }
    }

    /// Submits the form of a field in which Enter was pressed, by the form's default button (as Chromium's
    /// `HTMLFormElement::SubmitImplicitly`).
    fn submit_implicitly(&mut self, node: NodeId, from_text_field: bool) -> Result<Effect> {
        let Some(form) = self.form_of(node) else { return Ok(Effect::Stay) };
        let controls = self.controls_of(form);
        for &control in controls.iter().filter(|&&control| self.submits(control)) {
            if !self.disabled(control) {
                return self.submit(control);
            }
            if from_text_field {
                return Ok(Effect::Stay);
            }
        }
        let text_fields = controls.iter().filter(|&&control| submits_alone(self.input_type(control))).count();
        if from_text_field && text_fields == 1 { self.submit_form(form, None, self.dom.has(form, "novalidate")) } else { Ok(Effect::Stay) }
    }

    /// Presses an arrow key: selects another option of a drop-down list or another radio button of a group. `by` is 1 or -1.
    fn press_arrow(&mut self, node: NodeId, by: isize) {
        let next = |all: &[NodeId], at: NodeId, wraps: bool| {
            let (at, length) = (all.iter().position(|&one| one == at)? as isize + by, all.len() as isize);
            all.get(usize::try_from(if wraps { at.rem_euclid(length) } else { at }).ok()?).copied()
        };
        if self.dom.tag(node) == "select" && !self.is_listbox(node) {
            let options: Vec<NodeId> = self.options(node).into_iter().filter(|&option| !self.option_disabled(option)).collect();
            let chosen = self.selected(node).first().and_then(|&at| next(&options, at, false));
            if let Some(option) = chosen {
                self.select(node, option);
            }
        } else if self.input_type(node) == "radio" {
            let group: Vec<NodeId> = self.radio_group(node).into_iter().filter(|&other| !self.disabled(other)).collect();
            if let Some(other) = next(&group, node, true) {
                self.check(other);
                self.focus = Some(other);
            }
        }
    }
}

/// Whether Enter in an input of this type submits a form without a button, if the form has only one such input.
fn submits_alone(kind: &str) -> bool {
    matches!(kind, "text" | "search" | "tel" | "url" | "email" | "password" | "number")
}
