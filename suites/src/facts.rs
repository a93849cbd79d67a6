//! Facts that a task needs and that only the site's pages contain, and a record of those that were served so far.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::site::lock;

/// The maximum length of a page, in bytes.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// A fact, as a list of the ways in which a page can state it. Each way is a list of phrases; a page that contains all phrases of one way
/// states the fact.
pub(crate) type Fact = Vec<Vec<String>>;

/// The facts that one instance needs, with a record of which were served so far.
pub(crate) struct FactLog {
    facts: Vec<Fact>,
    served: Mutex<Vec<bool>>,
}

impl FactLog {
    /// Creates a log in which no fact was served yet.
    pub(crate) fn new(facts: Vec<Fact>) -> Self {
        Self { served: Mutex::new(vec![false; facts.len()]), facts }
    }

    /// Returns whether every fact was served.
    pub(crate) fn all_served(&self) -> bool {
        lock(&self.served).iter().all(|served| *served)
    }

    /// Adds a layer to the site that records which facts its responses state.
    pub(crate) fn watch(log: &Arc<Self>, site: Router) -> Router {
        match log.facts.is_empty() {
            true => site,
            false => site.layer(from_fn_with_state(log.clone(), record_response)),
        }
    }

    /// Records the facts that a page states.
    fn record(&self, body: &str) {
        let body = words(&without_tags(body));
        let told = |fact: &Fact| fact.iter().any(|way| way.iter().all(|phrase| contains(&body, &words(phrase))));
        for (served, fact) in lock(&self.served).iter_mut().zip(&self.facts) {
            *served = *served || told(fact);
        }
    }
}

/// Reads a successful response and records the facts that it states.
async fn record_response(State(log): State<Arc<FactLog>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    match to_bytes(body, MAX_PAGE_BYTES).await {
        Ok(body) => {
            log.record(&String::from_utf8_lossy(&body));
            Response::from_parts(parts, Body::from(body))
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the page is longer than {MAX_PAGE_BYTES} bytes: {error}")).into_response()
        }
    }
}

/// Returns the text of a page, with a space in place of each tag character.
fn without_tags(html: &str) -> String {
    let mut inside = false;
    html.chars()
        .map(|c| {
            let tag = inside || c == '<';
            inside = tag && c != '>';
            if tag { ' ' } else { c }
        })
        .collect()
}

/// Splits a text into words in lower case; punctuation does not count.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Returns whether the words of a phrase follow each other in a text.
pub(crate) fn contains(text: &[String], phrase: &[String]) -> bool {
    !phrase.is_empty() && text.windows(phrase.len()).any(|window| window == phrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_told_by_one_page_that_holds_all_of_a_way() {
        let way = |phrases: &[&str]| phrases.iter().map(|phrase| (*phrase).to_owned()).collect();
        let check = |pages: &[&str]| {
            let log = FactLog::new(vec![vec![way(&["About Blue Mug", "Price 12"]), way(&["Blue Mug 12"])]]);
            pages.iter().for_each(|page| log.record(page));
            log.all_served()
        };
        assert!(check(&["<h1>About Blue Mug</h1><table><tr><td>Price</td><td>12</td></tr></table>"]));
        assert!(check(&["<li><a href=\"/item/7\">Blue Mug</a> 12</li>"]));
        assert!(!check(&["<h1>About Blue Mug</h1>", "<p>Price: 12</p>"]));
        assert!(!check(&["<li><a>Blue Mug</a> 125</li>", "<p id=\"Blue Mug 12\">"]));
        assert!(!check(&[]));
    }
}
