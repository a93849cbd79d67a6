//! Which generation serves on each base model. All of it is one small file; a promotion or a rollback takes effect when that file is
//! replaced.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Incumbent, Record, Status, StatusChange};

/// The generation in service on one base model, and its predecessors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The generation in service; `None` is the base.
    pub(super) serving: Option<String>,
    /// The generations that served before, latest last; `None` is the base.
    pub(super) previous: Vec<Option<String>>,
    /// The latest change. The generations' records are updated from it if the process died before it wrote them.
    pub(super) last: Option<Change>,
}

/// A generation that was put into service or taken out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    id: String,
    #[serde(flatten)]
    change: StatusChange,
}

/// The pointers, by the hash of the base weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pointers(pub(super) BTreeMap<String, Pointer>);

impl Pointer {
    /// Puts a generation into service.
    pub(super) fn promote(&mut self, id: &str, incumbent: Incumbent<'_>, reason: &str, at: DateTime<Utc>) {
        self.previous.push(self.serving.replace(id.to_owned()));
        let change = StatusChange { status: Status::Promoted, at, reason: reason.to_owned(), by_hand: Some(incumbent == Incumbent::Any) };
        self.last = Some(Change { id: id.to_owned(), change });
    }

    /// Takes the serving generation out of service and restores the latest earlier one for which `good` returns true. Returns the
    /// generation that was taken out; `None` if the base serves.
    pub(super) fn rollback(&mut self, good: impl Fn(&str) -> bool, reason: &str, at: DateTime<Utc>) -> Option<String> {
        let gone = self.serving.take()?;
        while let Some(before) = self.previous.pop() {
            if before.as_deref().is_none_or(|id| id != gone && good(id)) {
                self.serving = before;
                break;
            }
        }
        let change = StatusChange { status: Status::RolledBack, at, reason: reason.to_owned(), by_hand: None };
        self.last = Some(Change { id: gone.clone(), change });
        Some(gone)
    }
}

impl Pointers {
    /// Brings a record up to date with the latest change of service. Returns whether the record changed.
    pub(super) fn update_record(&self, record: &mut Record) -> bool {
        let last = self.0.get(record.generation.weights()).and_then(|pointer| pointer.last.as_ref());
        let Some(Change { change, .. }) = last.filter(|last| last.id == record.id) else { return false };
        let known = |known: &StatusChange| known.at == change.at && known.status == change.status;
        if record.history.iter().any(known) {
            return false;
        }
        record.status = change.status;
        record.history.push(change.clone());
        true
    }
}

impl Record {
    /// Changes the status.
    pub(super) fn set(&mut self, status: Status, at: DateTime<Utc>, reason: &str) {
        self.status = status;
        self.history.push(StatusChange { status, at, reason: reason.to_owned(), by_hand: None });
    }
}
