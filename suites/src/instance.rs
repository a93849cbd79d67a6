//! One task on one site with one state: its goal, its checker, its reference milestones and its oracle.

mod draft;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use milepost_runtime::{Check, Error, Result, Task};
use tokio::sync::oneshot;
use url::Url;

pub(crate) use draft::Draft;

use crate::oracle::Oracle;
use crate::reads::{Reads, contains, words};
use crate::template::Template;

/// A site's state, shared by the handlers of its router and its checker.
pub(crate) type Shared<S> = Arc<Mutex<S>>;

/// Locks a site's state; a handler that panicked leaves it as it was.
pub(crate) fn lock<S>(shared: &Mutex<S>) -> MutexGuard<'_, S> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A site: state that can be served.
pub(crate) trait Site: Send + Sized + 'static {
    /// Its pages over a shared state.
    fn router(shared: Shared<Self>) -> Router;
}

/// A stage of the task, checked on the page by `check`; its truth comes from the server's state.
#[derive(Clone, Debug)]
pub struct ReferenceMilestone {
    /// What holds.
    pub text: String,
    /// How it is seen on a page.
    pub check: Check,
}

type Holds<S> = Box<dyn Fn(&S) -> bool + Send + Sync>;

/// How the state has a milestone.
struct Truth<S> {
    holds: Holds<S>,
    /// Whether it is a change that the goal asks for, and not only a place on the way to one.
    change: bool,
}

/// What an instance needs of its site, whichever site it is.
trait Running: Send + Sync {
    fn router(&self) -> Router;
    fn truths(&self) -> Vec<bool>;
    fn changed(&self) -> bool;
    fn guarded(&self) -> bool;
}

struct Episode<S> {
    state: Shared<S>,
    truths: Vec<Truth<S>>,
    needs: Vec<Holds<S>>,
    guards: Vec<Holds<S>>,
}

impl<S: Site> Running for Episode<S> {
    fn router(&self) -> Router {
        S::router(self.state.clone())
    }

    fn truths(&self) -> Vec<bool> {
        let state = lock(&self.state);
        self.truths.iter().map(|truth| (truth.holds)(&state)).collect()
    }

    fn changed(&self) -> bool {
        let state = lock(&self.state);
        self.truths.iter().filter(|truth| truth.change).all(|truth| (truth.holds)(&state)) && self.needs.iter().all(|holds| holds(&state))
    }

    fn guarded(&self) -> bool {
        let state = lock(&self.state);
        self.needs.iter().chain(&self.guards).all(|holds| holds(&state))
    }
}

/// One seeded task with a state of its own: serve it once, run it once.
pub struct Instance {
    origin: Option<(Template, u64)>,
    reads: Arc<Reads>,
    goal: String,
    start: &'static str,
    secrets: Vec<(String, String)>,
    milestones: Vec<ReferenceMilestone>,
    oracle: Oracle,
    episode: Box<dyn Running>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("goal", &self.goal).field("start", &self.start).finish_non_exhaustive()
    }
}

impl Instance {
    /// The same with the template and the seed that it was made from.
    pub(crate) fn made_from(self, template: Template, seed: u64) -> Self {
        Self { origin: Some((template, seed)), ..self }
    }

    /// The same task with a state of its own, as it was at the start.
    pub fn again(&self) -> Option<Self> {
        self.origin.map(|(template, seed)| template.instantiate(seed))
    }

    /// Its template and seed, which name it.
    pub(crate) fn name(&self) -> String {
        self.origin.map(|(template, seed)| format!("{} {seed}", template.id)).unwrap_or_default()
    }

    /// What is to be done, in words.
    pub fn goal(&self) -> &str {
        &self.goal
    }

    /// Path of the first page.
    pub fn start_path(&self) -> &str {
        self.start
    }

    /// Secrets that the task may type: name and value.
    pub fn secrets(&self) -> &[(String, String)] {
        &self.secrets
    }

    /// The site over this instance's state, for use without a socket.
    pub fn router(&self) -> Router {
        Reads::watch(&self.reads, self.episode.router())
    }

    /// Serves the site on a free loopback port until the result is dropped.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn serve(&self) -> Result<Served> {
        self.serve_on(0).await
    }

    /// Serves the site on this loopback port (0: a free one) until the result is dropped.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn serve_on(&self, port: u16) -> Result<Served> {
        Served::start(self.router(), port).await
    }

    /// The task for the loop, confined to the site at `base`, with `fetch` and this instance's secrets.
    ///
    /// # Errors
    /// `base` is no http address.
    pub fn task(&self, base: &Url) -> Result<Task> {
        let start =
            base.join(self.start).map_err(|error| Error::BadInput(format!("{base} cannot hold the path {}: {error}", self.start)))?;
        let mut task = Task::new(&self.goal, start.as_str())?;
        task.capability.secrets = self.secrets.iter().map(|(name, _)| name.clone()).collect();
        task.source = self.origin.map(|(template, seed)| template.source(seed));
        Ok(task)
    }

    /// The policy that solves it.
    pub fn oracle(&self) -> Oracle {
        self.oracle.clone()
    }

    /// The stages of the task, as they are seen on pages.
    pub fn milestones(&self) -> Vec<ReferenceMilestone> {
        self.milestones.clone()
    }

    /// Which stages the server's state has reached, in the order of [`milestones`](Self::milestones).
    pub fn truths(&self) -> Vec<bool> {
        self.episode.truths()
    }

    /// Whether the site served every fact that the goal needs, and its state has every change that the goal asks for, by whatever route:
    /// neither answer nor thought nor the order of actions counts (completeness, RLTR, 2508.19598, section 3.2). What was changed
    /// beyond that is the checker's affair.
    pub fn complete(&self) -> bool {
        self.reads.all() && self.episode.changed()
    }

    /// The checker: the server's state has every stage and nothing else was changed, and the answer contains the value asked for.
    pub fn success(&self, answer: Option<&str>) -> bool {
        let answered = match &self.oracle.answer {
            None => true,
            Some(value) => answer.is_some_and(|answer| contains_words(answer, value)),
        };
        answered && self.truths().iter().all(|holds| *holds) && self.episode.guarded()
    }

    /// The value that the answer must contain, where one is asked for.
    pub fn expected_answer(&self) -> Option<String> {
        self.oracle.answer.clone()
    }
}

/// Whether the words of `value` follow each other in `answer`; case and punctuation do not count.
fn contains_words(answer: &str, value: &str) -> bool {
    contains(&words(answer), &words(value))
}

/// A site on a loopback port; it stops when this is dropped.
#[derive(Debug)]
pub struct Served {
    /// Its address, as `http://127.0.0.1:PORT/`.
    pub url: Url,
    // Dropping the sender ends the server; nothing is ever sent.
    _stop: oneshot::Sender<()>,
}

impl Served {
    pub(crate) async fn start(router: Router, port: u16) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::Environment(format!("the suite cannot listen on 127.0.0.1:{port}: {error}; choose another port, or 0 for a free one"))
        };
        let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(failed)?;
        let url = format!("http://{}/", listener.local_addr().map_err(failed)?);
        let url = Url::parse(&url).map_err(|error| Error::Environment(format!("{url} is no address: {error}")))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = axum::serve(listener, router).with_graceful_shutdown(async {
            // Only ever ends by the sender's drop.
            let _ = stopped.await;
        });
        tokio::spawn(served.into_future());
        Ok(Self { url, _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use super::contains_words;

    #[test]
    fn an_answer_contains_the_value_as_whole_words() {
        assert!(contains_words("The price is 12.", "12"));
        assert!(contains_words("ana diaz", "Ana Diaz"));
        assert!(!contains_words("It costs 125", "12"));
        assert!(!contains_words("", "12"));
    }
}
