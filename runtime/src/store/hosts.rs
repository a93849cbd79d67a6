//! The hosts that an episode touched, in the normal form in which hosts are compared.

use serde_json::Value;
use url::{Origin, Url};

use crate::action::{Action, Argument};

/// The characters that end the host part of an address inside a text.
const HOST_ENDS: &[char] = &['/', '?', '#', '\\', '"', '\'', '`', '<', '>', '(', ')', ',', ';', '{', '}', '|'];

/// Returns the host of an address in normal form: lower case, in ASCII, without user, port and trailing dot.
pub(super) fn host_of(url: &Url) -> Option<String> {
    match url.origin() {
        Origin::Tuple(_, host, _) => Some(host.to_string().trim_end_matches('.').to_owned()),
        Origin::Opaque(_) => None,
    }
}

/// Returns the host in a text, which is a host or an address, in normal form: lower case, without scheme, user, port, path and trailing
/// dot. `None` if the text is neither.
pub fn bare_host(text: &str) -> Option<String> {
    let text = text.trim();
    let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&address).ok().and_then(|url| host_of(&url))
}

/// Like [`bare_host`], but returns a text that is neither host nor address in lower case.
pub(super) fn normalized(host: &str) -> String {
    bare_host(host).unwrap_or_else(|| host.trim().trim_end_matches('.').to_lowercase())
}

/// Returns the hosts of a turn: the host of its page, and of every address in its action, whether the address was reached or not. `action`
/// is the recorded line.
pub(super) fn of_turn(start: &Url, page: &str, action: &str) -> Vec<String> {
    let page = Url::parse(page).unwrap_or_else(|_| start.clone());
    let mut hosts: Vec<String> = host_of(&page).into_iter().collect();
    match Action::parse(action) {
        Ok(action) => action.arguments().into_iter().for_each(|argument| match argument {
            Argument::Address(target) => hosts.extend(page.join(target).ok().as_ref().and_then(host_of)),
            Argument::ToolArguments(arguments) => add_hosts(start, arguments, &mut hosts),
            _ => {}
        }),
        // Another version wrote the line, so the addresses are searched for in its text.
        Err(_) => hosts.extend(hosts_in_text(action)),
    }
    hosts
}

/// Adds the hosts of all addresses in a tool's arguments. Relative addresses are resolved against the task's first page, as `fetch` does.
fn add_hosts(start: &Url, arguments: &Value, hosts: &mut Vec<String>) {
    match arguments {
        Value::String(text) => {
            hosts.extend(start.join(text).ok().as_ref().and_then(host_of));
            hosts.extend(hosts_in_text(text));
        }
        Value::Array(items) => items.iter().for_each(|item| add_hosts(start, item, hosts)),
        Value::Object(fields) => fields.values().for_each(|field| add_hosts(start, field, hosts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the hosts of the addresses in a text.
fn hosts_in_text(text: &str) -> impl Iterator<Item = String> {
    text.split("://").skip(1).filter_map(|rest| {
        let authority = rest.split(|c: char| c.is_whitespace() || HOST_ENDS.contains(&c)).next()?;
        host_of(&Url::parse(&format!("http://{}", authority.trim_end_matches(['.', ':', '!']))).ok()?)
    })
}
