//! A task of the suite on a site of its own that records its changes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use milepost_suites::{Instance, template};
use tokio::task::AbortHandle;

/// A served site. Dropping it stops the server.
pub struct Site {
    instance: Instance,
    address: String,
    /// The period of each change.
    changes: Arc<Mutex<Vec<usize>>>,
    server: AbortHandle,
}

impl Site {
    /// Serves an instance of a template. Each request that changes the site is recorded with the number in `period` at that time.
    pub async fn open(id: &str, seed: u64, period: &Arc<AtomicUsize>) -> Self {
        let instance = template(id).unwrap().instantiate(seed);
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (recorded, period) = (changes.clone(), period.clone());
        let router = instance.router().layer(from_fn(move |request: Request, next: Next| {
            if !request.method().is_safe() {
                recorded.lock().unwrap().push(period.load(Ordering::SeqCst));
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

    /// Returns the periods in which the site was changed.
    pub fn periods_with_changes(&self) -> BTreeSet<usize> {
        self.changes.lock().unwrap().iter().copied().collect()
    }

    /// Returns the number of changes.
    pub fn changes(&self) -> usize {
        self.changes.lock().unwrap().len()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}
