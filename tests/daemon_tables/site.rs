//! A task of the suite on a site of its own that remembers what was changed on it, and when.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use milepost_suites::{Instance, template};
use tokio::task::AbortHandle;

/// A served site; it ends when dropped.
pub struct Site {
    instance: Instance,
    address: String,
    changes: Arc<Mutex<Vec<usize>>>,
    server: AbortHandle,
}

impl Site {
    /// Serves an instance; a change is noted under the era that it happens in.
    pub async fn open(id: &str, seed: u64, era: &Arc<AtomicUsize>) -> Self {
        let instance = template(id).unwrap().instantiate(seed);
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (noted, era) = (changes.clone(), era.clone());
        let router = instance.router().layer(from_fn(move |request: Request, next: Next| {
            if !request.method().is_safe() {
                noted.lock().unwrap().push(era.load(Ordering::SeqCst));
            }
            next.run(request)
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}{}", listener.local_addr().unwrap(), instance.start_path());
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { instance, address, changes, server }
    }

    pub fn goal(&self) -> &str {
        self.instance.goal()
    }

    pub fn url(&self) -> &str {
        &self.address
    }

    /// The eras in which something was changed.
    pub fn eras(&self) -> BTreeSet<usize> {
        self.changes.lock().unwrap().iter().copied().collect()
    }

    /// How much was changed.
    pub fn changes(&self) -> usize {
        self.changes.lock().unwrap().len()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}
