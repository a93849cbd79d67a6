//! The plain reader: an environment for pages without scripts that needs no browser. It loads, fills and submits pages as a browser would.
//!
//! Its observation of a page equals that of the browser's script, as long as style sheets neither hide elements nor turn inline elements
//! into blocks; `style` attributes are respected.

mod act;
mod cookies;
mod dom;
mod form;
mod names;
mod page;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod transport;
mod value;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::{Action, Environment, Error, Observation, Outcome, Result, Secrets, Task, secrets};
use url::Url;

use act::Effect;
use cookies::Cookies;
use page::Page;
use restore::FormState;
pub use transport::{HttpTransport, Method, Request, Response, Transport};

/// The maximum number of redirects that are followed for one page.
const MAX_REDIRECTS: usize = 20;

/// An entry of the history, to which the action `back` returns.
enum HistoryEntry {
    /// Another document, which is loaded again by its address, and the state that its controls had.
    Reload(Url, FormState),
    /// Another document that cannot be loaded again by its address, kept as it was.
    Kept(Box<Page>),
    /// The same document at another fragment.
    Fragment(Url),
}

/// A session on pages without scripts: cookies, history, the page and the state of its controls.
pub struct PlainEnvironment {
    transport: Arc<dyn Transport>,
    secrets: Secrets,
    cookies: Cookies,
    page: Option<Page>,
    history: Vec<HistoryEntry>,
    fingerprint: Option<String>,
    /// The elements that a secret was typed into.
    secret_fields: HashSet<u32>,
}

impl PlainEnvironment {
    /// A session without a page. [`Environment::reset`] opens the first page.
    pub fn new(transport: Arc<dyn Transport>, secrets: Secrets) -> Self {
        Self {
            transport,
            secrets,
            cookies: Cookies::default(),
            page: None,
            history: Vec::new(),
            fingerprint: None,
            secret_fields: HashSet::new(),
        }
    }

    /// Loads a document and follows redirects; `None` where the response has no document (status 204 or 205).
    async fn load(&mut self, mut method: Method, mut url: Url, mut body: Option<String>) -> Result<Option<Page>> {
        for _ in 0..=MAX_REDIRECTS {
            let fragment = url.fragment().map(str::to_owned);
            let mut bare = url.clone();
            bare.set_fragment(None);
            let cookies = self.cookies.header(&bare);
            let response = self.transport.request(Request { method, url: bare, body: body.clone(), cookies }).await?;
            for header in &response.set_cookies {
                self.cookies.store(header, &url);
            }
            let target = response.location.as_deref().filter(|_| matches!(response.status, 301 | 302 | 303 | 307 | 308));
            if let Some(target) = target {
                let mut next = url.join(target.trim()).ok().filter(|next| matches!(next.scheme(), "http" | "https"));
                let Some(mut next) = next.take() else {
                    return Err(Error::Environment(format!("{url} redirects to {target:?}, which is no http or https address")));
                };
                if next.fragment().is_none() {
                    next.set_fragment(fragment.as_deref());
                }
                if matches!(response.status, 301..=303) {
                    (method, body) = (Method::Get, None);
                }
                url = next;
                continue;
            }
            if matches!(response.status, 204 | 205) {
                return Ok(None);
            }
            let page = Page::new(url, &document(&response)?, method == Method::Post);
            match page.refresh() {
                Some((0, next)) if next != page.url => (method, url, body) = (Method::Get, next, None),
                _ => return Ok(Some(page)),
            }
        }
        Err(Error::Environment(format!("{url} redirects more than {MAX_REDIRECTS} times")))
    }

    /// Opens another page and puts the one before into the history.
    async fn open(&mut self, method: Method, url: Url, body: Option<String>) -> Result<()> {
        let same = method == Method::Get && self.page.as_ref().is_some_and(|page| page.url == url);
        if let Some(next) = self.load(method, url, body).await? {
            match self.page.replace(next) {
                Some(left) if !same => self.history.push(if left.posted {
                    HistoryEntry::Kept(Box::new(left))
                } else {
                    HistoryEntry::Reload(left.url.clone(), left.form_state())
                }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Follows a link. A link to a fragment of the same page only changes the address.
    async fn follow(&mut self, url: Url) -> Result<()> {
        if let Some(page) =
            self.page.as_mut().filter(|page| url.fragment().is_some() && without_fragment(&page.url) == without_fragment(&url))
        {
            if page.url != url {
                self.history.push(HistoryEntry::Fragment(std::mem::replace(&mut page.url, url)));
            }
            return Ok(());
        }
        self.open(Method::Get, url, None).await
    }

    /// Returns to the last entry of the history.
    async fn back(&mut self) -> Result<Outcome> {
        match self.history.pop() {
            None => return Ok(Outcome::failed("there is no earlier page to go back to")),
            Some(HistoryEntry::Kept(page)) => self.page = Some(*page),
            Some(HistoryEntry::Fragment(url)) => {
                if let Some(page) = &mut self.page {
                    page.url = url;
                }
            }
            Some(HistoryEntry::Reload(url, state)) => {
                if let Some(mut page) = self.load(Method::Get, url, None).await? {
                    page.restore(state);
                    self.page = Some(page);
                }
            }
        }
        Ok(Outcome::done())
    }

    /// Carries out the effect of an action.
    async fn apply(&mut self, effect: Effect) -> Result<Outcome> {
        match effect {
            Effect::Stay => {}
            Effect::Follow(url) => self.follow(url).await?,
            Effect::Submit(submission) => self.open(submission.method, submission.url, submission.body).await?,
        }
        Ok(Outcome::done())
    }

    async fn goto(&mut self, target: &str) -> Result<Outcome> {
        let url = match &self.page {
            Some(page) => page.url.join(target),
            None => Url::parse(target),
        };
        match url {
            Ok(url) if matches!(url.scheme(), "http" | "https") => match self.follow(url.clone()).await {
                Ok(()) => Ok(Outcome::done()),
                Err(error) => Ok(Outcome::failed(format!("{url} cannot be opened: {error}"))),
            },
            _ => Ok(Outcome::failed(format!("invalid: {target:?} is no http or https address"))),
        }
    }

    async fn click(&mut self, id: u32) -> Result<Outcome> {
        let Some((page, node)) = self.page.as_mut().and_then(|page| page.node(id).map(|node| (page, node))) else { return Ok(missing(id)) };
        if page.disabled(node) || page.dom.attribute(node, "aria-disabled") == Some("true") {
            return Ok(Outcome::failed(format!("element {id} is disabled")));
        }
        if page.input_type(node) == "file" {
            return Ok(Outcome::failed(format!("element {id} opens a file chooser, and files cannot be uploaded")));
        }
        if page.not_rendered(node) {
            return Ok(Outcome::failed(format!("element {id} has no place on the page to click")));
        }
        let effect = page.click(node)?;
        self.apply(effect).await
    }

    fn fill(&mut self, id: u32, text: &str) -> Outcome {
        let Some((page, node)) = self.page.as_mut().and_then(|page| page.node(id).map(|node| (page, node))) else { return missing(id) };
        if secrets::names(text).is_empty() {
            return page.fill(node, id, text);
        }
        let text = match self.secrets.reveal(text, &page.url) {
            Ok(text) => text,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        if let Some(limit) = page.max_length(node).filter(|&limit| text.encode_utf16().count() > limit) {
            return Outcome::failed(format!("element {id} takes at most {limit} characters, fewer than the secret has"));
        }
        self.secret_fields.insert(id);
        page.fill(node, id, &text)
    }

    async fn perform(&mut self, action: &Action) -> Result<Outcome> {
        match action {
            Action::Click(id) => self.click(*id).await,
            Action::Type { id, text } => Ok(self.fill(*id, text)),
            Action::Select { id, option } => Ok(match self.page.as_mut().and_then(|page| page.node(*id).map(|node| (page, node))) {
                Some((page, node)) => page.choose(node, *id, option),
                None => missing(*id),
            }),
            Action::Press(key) => match self.page.as_mut().map(|page| page.press(*key)) {
                Some(effect) => self.apply(effect?).await,
                None => Ok(Outcome::done()),
            },
            Action::Goto(target) => self.goto(target).await,
            Action::Back => self.back().await,
            // An observation has the whole page, so there is nothing to scroll.
            Action::Scroll(_) => Ok(Outcome::done()),
            Action::Wait => match self.page.as_ref().and_then(Page::refresh) {
                Some((_, url)) => self.open(Method::Get, url, None).await.map(|()| Outcome::done()),
                None => Ok(Outcome::done()),
            },
            other => Ok(Outcome::unsupported(other)),
        }
    }
}

#[async_trait]
impl Environment for PlainEnvironment {
    async fn reset(&mut self, task: &Task) -> Result<()> {
        *self = Self::new(self.transport.clone(), self.secrets.clone());
        self.open(Method::Get, task.start_url.clone(), None).await?;
        match self.page {
            Some(_) => Ok(()),
            None => Err(Error::Environment(format!("{} answers without a page", task.start_url))),
        }
    }

    async fn observe(&mut self) -> Result<Observation> {
        let Some(page) = &mut self.page else {
            return Err(Error::Environment("no page is open; reset the environment to a task first".into()));
        };
        let mut observation = read::read(page);
        self.secrets.scrub_page(&mut observation, &self.secret_fields);
        let fingerprint = observation.fingerprint();
        observation.changed = self.fingerprint.as_ref() != Some(&fingerprint);
        self.fingerprint = Some(fingerprint);
        Ok(observation)
    }

    async fn act(&mut self, action: &Action) -> Result<Outcome> {
        match self.perform(action).await {
            Err(Error::Environment(reason)) => Ok(Outcome::failed(self.secrets.scrub(&reason))),
            other => other,
        }
    }

    fn scrubbed(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }

    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    async fn close(&mut self) -> Result<()> {
        (self.page, self.history) = (None, Vec::new());
        Ok(())
    }
}

fn missing(id: u32) -> Outcome {
    Outcome::failed(format!("invalid: there is no element {id} on the page"))
}

fn without_fragment(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    url
}

/// Returns the HTML document that a browser shows for a response: its body, or the document that shows a text.
fn document(response: &Response) -> Result<std::borrow::Cow<'_, str>> {
    let kind = response.content_type.as_deref().unwrap_or("text/html").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "text/html" | "application/xhtml+xml" | "" => Ok(response.body.as_str().into()),
        "application/json" => Ok(plain_text(&response.body).into()),
        kind if kind.starts_with("text/") || kind.ends_with("+json") => Ok(plain_text(&response.body).into()),
        kind => Err(Error::Environment(format!("the answer is {kind}, not a page"))),
    }
}

/// Returns the document in which a browser shows a text.
fn plain_text(body: &str) -> String {
    format!("<html><head></head><body><pre>{}</pre></body></html>", body.replace('&', "&amp;").replace('<', "&lt;"))
}
