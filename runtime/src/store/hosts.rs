//! The hosts that an episode passed through, in the one spelling by which hosts are compared.

use serde_json::Value;
use url::{Origin, Url};

use crate::action::Action;

/// What ends an address's authority inside a text.
const ENDS: &[char] = &['/', '?', '#', '\\', '"', '\'', '`', '<', '>', '(', ')', ',', ';', '{', '}', '|'];

/// The host of an address: lower case, in ASCII, without user, port and trailing dot.
pub(super) fn host_of(url: &Url) -> Option<String> {
    match url.origin() {
        Origin::Tuple(_, host, _) => Some(host.to_string().trim_end_matches('.').to_owned()),
        Origin::Opaque(_) => None,
    }
}

/// A host as somebody wrote it, alone or in an address, as hosts are compared: lower case, without scheme, user, port, path and trailing dot.
pub fn bare_host(text: &str) -> Option<String> {
    let text = text.trim();
    let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&address).ok().and_then(|url| host_of(&url))
}

/// [`bare_host`], also of what is none.
pub(super) fn spelled(host: &str) -> String {
    bare_host(host).unwrap_or_else(|| host.trim().trim_end_matches('.').to_lowercase())
}

/// The hosts of a turn: of its page, and of every address in its action, whether it was reached or not. `action` is the recorded line.
pub(super) fn of_turn(start: &Url, page: &str, action: &str) -> Vec<String> {
    let page = Url::parse(page).unwrap_or_else(|_| start.clone());
    let mut hosts: Vec<String> = host_of(&page).into_iter().collect();
    match Action::parse(action) {
        Ok(Action::Goto(target)) => hosts.extend(page.join(&target).ok().as_ref().and_then(host_of)),
        Ok(Action::Call { arguments, .. }) => of_arguments(start, &arguments, &mut hosts),
        Ok(_) => {}
        // A line of another version: what it names counts.
        Err(_) => hosts.extend(in_text(action)),
    }
    hosts
}

/// Tools read an address as `fetch` does: from the task's first page on.
fn of_arguments(start: &Url, arguments: &Value, hosts: &mut Vec<String>) {
    match arguments {
        Value::String(text) => {
            hosts.extend(start.join(text).ok().as_ref().and_then(host_of));
            hosts.extend(in_text(text));
        }
        Value::Array(items) => items.iter().for_each(|item| of_arguments(start, item, hosts)),
        Value::Object(fields) => fields.values().for_each(|field| of_arguments(start, field, hosts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The hosts of the addresses in a text.
fn in_text(text: &str) -> impl Iterator<Item = String> {
    text.split("://").skip(1).filter_map(|rest| {
        let authority = rest.split(|c: char| c.is_whitespace() || ENDS.contains(&c)).next()?;
        host_of(&Url::parse(&format!("http://{}", authority.trim_end_matches(['.', ':', '!']))).ok()?)
    })
}
