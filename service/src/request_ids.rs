//! The ids of the HTTP requests by which tasks were submitted.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::sync::lock;

/// The maximum number of tasks whose requests are remembered.
const CAPACITY: usize = 10_000;

/// A map from the id of a running or queued task to the id of the HTTP request that submitted it; kept in memory only.
///
/// It holds at most 10,000 tasks; a task beyond them is not remembered.
#[derive(Debug, Default)]
pub struct RequestIds(Mutex<HashMap<String, String>>);

impl RequestIds {
    /// Remembers the request that submitted a task.
    pub fn remember(&self, task: &str, request: &str) {
        let mut requests = lock(&self.0);
        if requests.len() < CAPACITY {
            requests.insert(task.to_owned(), request.to_owned());
        }
    }

    /// Returns the id of the request that submitted a task; `None` for a task from before the last start or beyond the capacity.
    pub fn of(&self, task: &str) -> Option<String> {
        lock(&self.0).get(task).cloned()
    }

    /// Forgets the request of a task that ended.
    pub fn forget(&self, task: &str) {
        lock(&self.0).remove(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_remembered_until_it_is_forgotten() {
        let requests = RequestIds::default();
        requests.remember("task", "request");
        assert_eq!(requests.of("task").as_deref(), Some("request"));
        requests.forget("task");
        assert_eq!(requests.of("task"), None);
    }

    #[test]
    fn at_most_ten_thousand_tasks_are_remembered() {
        let requests = RequestIds::default();
        for task in 0..=10_000 {
            requests.remember(&task.to_string(), "request");
        }
        assert_eq!((requests.of("9999").as_deref(), requests.of("10000")), (Some("request"), None));
        requests.forget("0");
        requests.remember("10000", "request");
        assert!(requests.of("10000").is_some());
    }
}
