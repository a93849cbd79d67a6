//! Forms: the validity of their controls, and the request of a submission.

use milepost_runtime::{Error, Result};
use url::Url;
use url::form_urlencoded::Serializer;

use super::dom::NodeId;
use super::page::Page;
use super::transport::Method;
use super::value::{normalize_newlines, value_as_number};

/// The request of a form submission.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub method: Method,
    pub url: Url,
    pub body: Option<String>,
}

impl Page {
    /// Returns the first invalid control, which keeps a form from being submitted.
    pub fn first_invalid(&self, form: NodeId) -> Option<NodeId> {
        self.controls_of(form).into_iter().find(|&node| self.is_validated(node) && !self.is_valid(node))
    }

    /// Whether a control is checked at all (HTML standard: a candidate for constraint validation).
    fn is_validated(&self, node: NodeId) -> bool {
        let tag = self.dom.tag(node);
        let kind = self.input_type(node);
        let plain_button = matches!(kind, "hidden" | "reset" | "button") || matches!(self.button_type(node), "reset" | "button");
        let read_only = matches!(tag, "input" | "textarea") && self.dom.has(node, "readonly");
        !plain_button && !read_only && !self.disabled(node) && self.dom.closest(node, "datalist").is_none()
    }

    /// Whether the value of a control meets the control's constraints.
    fn is_valid(&self, node: NodeId) -> bool {
        let required = self.dom.has(node, "required");
        match (self.dom.tag(node), self.input_type(node)) {
            ("select", _) => !required || self.has_selection(node),
            ("textarea", _) => !required || !self.value(node).is_empty(),
            ("input", "checkbox") => !required || self.is_checked(node),
            ("input", "radio") => {
                let group = self.radio_group(node);
                !group.iter().any(|&other| self.dom.has(other, "required")) || group.iter().any(|&other| self.is_checked(other))
            }
            ("input", "submit" | "image" | "range" | "color") => true,
            ("input", kind) => match self.value(node) {
                value if value.is_empty() => !required,
                value => self.is_text_valid(node, kind, &value),
            },
            _ => true,
        }
    }

    /// Whether a `select` has another option selected than its placeholder.
    fn has_selection(&self, select: NodeId) -> bool {
        let single = !self.is_listbox(select);
        let first = self.options(select).first().copied();
        self.selected(select).into_iter().any(|option| {
            let direct = self.dom.parent(option) == Some(select);
            !(single && direct && Some(option) == first && self.option_value(option).is_empty())
        })
    }

    /// Whether a value that is not empty fits the type, range and pattern of its input.
    fn is_text_valid(&self, node: NodeId, kind: &str, value: &str) -> bool {
        let typed = match kind {
            "email" if self.dom.has(node, "multiple") => value.split(',').all(is_email),
            "email" => is_email(value),
            "url" => Url::parse(value).is_ok(),
            _ => true,
        };
        typed && self.in_range(node, kind, value) && self.matches_pattern(node, kind, value)
    }

    fn matches_pattern(&self, node: NodeId, kind: &str, value: &str) -> bool {
        let Some(pattern) = self.dom.attribute(node, "pattern") else { return true };
        if !matches!(kind, "text" | "search" | "tel" | "url" | "email" | "password") {
            return true;
        }
        // As in a browser, a pattern that cannot be parsed is ignored.
        regex::Regex::new(&format!("^(?:{pattern})$")).map_or(true, |pattern| pattern.is_match(value))
    }

    /// Whether a value is between `min` and `max` and on a multiple of `step`.
    fn in_range(&self, node: NodeId, kind: &str, value: &str) -> bool {
        let Some(value) = value_as_number(kind, value) else { return true };
        let bound = |name| self.dom.attribute(node, name).and_then(|bound| value_as_number(kind, bound));
        let (least, most) = (bound("min"), bound("max"));
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            return false;
        }
        let unit = if matches!(kind, "time" | "datetime-local") { 60.0 } else { 1.0 };
        let step = match self.dom.attribute(node, "step") {
            Some(any) if any.eq_ignore_ascii_case("any") => return true,
            Some(step) => super::value::number(step).filter(|&step| step > 0.0).unwrap_or(unit),
            None => unit,
        };
        // Weeks are counted from the week of 1970-01-01, which began on 1969-12-29.
        let base = least.or_else(|| bound("value")).unwrap_or(0.0);
        let steps = (value - base) / step;
        (steps - steps.round()).abs() < 1e-6 * steps.abs().max(1.0)
    }

    /// Returns the request that submitting a form by `submitter` sends; `None` where none is sent.
    ///
    /// # Errors
    /// The form is sent as `multipart/form-data`, which is not supported.
    pub fn submission(&self, form: NodeId, submitter: Option<NodeId>) -> Result<Option<Submission>> {
        let setting = |name: &str| {
            let own = submitter.and_then(|node| self.dom.attribute(node, &format!("form{name}")));
            own.or_else(|| self.dom.attribute(form, name)).unwrap_or_default()
        };
        let target = setting("action").trim();
        let url = if target.is_empty() { Ok(self.url.clone()) } else { self.base().join(target) };
        let Some(mut url) = url.ok().filter(|url| matches!(url.scheme(), "http" | "https")) else { return Ok(None) };
        let fields = self.entries(form, submitter);
        let encoded = Serializer::new(String::new()).extend_pairs(&fields).finish();
        Ok(match setting("method").to_ascii_lowercase().as_str() {
            "dialog" => None,
            "post" if setting("enctype").eq_ignore_ascii_case("multipart/form-data") => {
                return Err(Error::Environment(format!(
                    "the form on {} is sent as multipart/form-data; use a real browser for it",
                    self.url
                )));
            }
            "post" => Some(Submission { method: Method::Post, url, body: Some(encoded) }),
            _ => {
                url.set_query(Some(&encoded));
                Some(Submission { method: Method::Get, url, body: None })
            }
        })
    }

    /// Returns the names and values that a form sends, in document order (HTML standard: the entry list).
    fn entries(&self, form: NodeId, submitter: Option<NodeId>) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        for node in self.controls_of(form) {
            if self.disabled(node) || self.dom.closest(node, "datalist").is_some() {
                continue;
            }
            let name = self.dom.attribute(node, "name").unwrap_or_default();
            let kind = self.input_type(node);
            let button = self.dom.tag(node) == "button" || matches!(kind, "submit" | "image" | "reset" | "button");
            if button && Some(node) != submitter {
                continue;
            }
            if kind == "image" {
                let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
                fields.extend(["x", "y"].map(|axis| (format!("{prefix}{axis}"), "0".to_owned())));
                continue;
            }
            if name.is_empty() {
                continue;
            }
            let attribute = self.dom.attribute(node, "value");
            match (self.dom.tag(node), kind) {
                ("select", _) => {
                    let chosen = self.selected(node).into_iter().filter(|&option| !self.option_disabled(option));
                    fields.extend(chosen.map(|option| (name.to_owned(), self.option_value(option))));
                }
                (_, "checkbox" | "radio") if !self.is_checked(node) => {}
                (_, "checkbox" | "radio") => fields.push((name.to_owned(), attribute.unwrap_or("on").to_owned())),
                ("button", _) => fields.push((name.to_owned(), attribute.unwrap_or_default().to_owned())),
                (_, "hidden") if name.eq_ignore_ascii_case("_charset_") => fields.push((name.to_owned(), "UTF-8".to_owned())),
                (_, "submit") => fields.push((name.to_owned(), attribute.unwrap_or_default().to_owned())),
                _ => fields.push((name.to_owned(), normalize_newlines(&self.value(node)).replace('\n', "\r\n"))),
            }
        }
        fields
    }
}

/// Whether a text matches HTML's own pattern for an email address.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !local.is_empty()
        && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte))
        && domain.split('.').all(label)
}
