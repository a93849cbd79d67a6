//! Facts that a task needs and only the site can tell: which of them were served, by whatever page.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use crate::instance::lock;

/// The longest page, in bytes.
const LONGEST: usize = 1 << 20;

/// A fact: it is told by any page that holds all phrases of one of its ways.
pub(crate) type Fact = Vec<Vec<String>>;

/// The facts that one instance needs, and those that were served so far.
pub(crate) struct Reads {
    facts: Vec<Fact>,
    served: Mutex<Vec<bool>>,
}

impl Reads {
    /// Nothing was served yet.
    pub(crate) fn new(facts: Vec<Fact>) -> Self {
        Self { served: Mutex::new(vec![false; facts.len()]), facts }
    }

    /// Whether every fact was served.
    pub(crate) fn all(&self) -> bool {
        lock(&self.served).iter().all(|served| *served)
    }

    /// The site, each of its answers watched.
    pub(crate) fn watch(reads: &Arc<Self>, site: Router) -> Router {
        match reads.facts.is_empty() {
            true => site,
            false => site.layer(from_fn_with_state(reads.clone(), note)),
        }
    }

    fn note(&self, body: &str) {
        let body = words(&without_tags(body));
        let told = |fact: &Fact| fact.iter().any(|way| way.iter().all(|phrase| contains(&body, &words(phrase))));
        for (served, fact) in lock(&self.served).iter_mut().zip(&self.facts) {
            *served = *served || told(fact);
        }
    }
}

async fn note(State(reads): State<Arc<Reads>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    match to_bytes(body, LONGEST).await {
        Ok(body) => {
            reads.note(&String::from_utf8_lossy(&body));
            Response::from_parts(parts, Body::from(body))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the page is longer than {LONGEST} bytes: {error}")).into_response(),
    }
}

/// The text of a page: each tag is a space.
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

/// The words of a text, in lower case; punctuation does not count.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Whether the words of a phrase follow each other in a text.
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
            let reads = Reads::new(vec![vec![way(&["About Blue Mug", "Price 12"]), way(&["Blue Mug 12"])]]);
            pages.iter().for_each(|page| reads.note(page));
            reads.all()
        };
        assert!(check(&["<h1>About Blue Mug</h1><table><tr><td>Price</td><td>12</td></tr></table>"]));
        assert!(check(&["<li><a href=\"/item/7\">Blue Mug</a> 12</li>"]));
        assert!(!check(&["<h1>About Blue Mug</h1>", "<p>Price: 12</p>"]));
        assert!(!check(&["<li><a>Blue Mug</a> 125</li>", "<p id=\"Blue Mug 12\">"]));
        assert!(!check(&[]));
    }
}
