//! Which generation serves: one small file for all base models, whose replacement is the moment of a promotion or a rollback.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Over, Record, Status, StatusChange};

/// What serves on one base model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The generation in service; `None` is the base.
    pub(super) serving: Option<String>,
    /// What served before, latest last.
    pub(super) previous: Vec<Option<String>>,
    /// The latest change, so that the records of the generations can be brought up to date where the process died in between.
    pub(super) last: Option<Change>,
}

/// A generation that came into service or went out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    id: String,
    #[serde(flatten)]
    change: StatusChange,
}

/// Pointers by hash of the base weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pointers(pub(super) BTreeMap<String, Pointer>);

impl Pointer {
    /// Puts a generation into service.
    pub(super) fn promote(&mut self, id: &str, over: Over<'_>, reason: &str, at: DateTime<Utc>) {
        self.previous.push(self.serving.replace(id.to_owned()));
        let change = StatusChange { status: Status::Promoted, at, reason: reason.to_owned(), by_hand: Some(over == Over::Anything) };
        self.last = Some(Change { id: id.to_owned(), change });
    }

    /// Takes what serves out of service; what served before takes its place, leaving out generations that are not `good` any more.
    /// Gives the generation that went, `None` where the base serves.
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
    /// Brings a record up to date with the latest change of service; says whether it was behind.
    pub(super) fn settle(&self, record: &mut Record) -> bool {
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
    pub(super) fn set(&mut self, status: Status, at: DateTime<Utc>, reason: &str) {
        self.status = status;
        self.history.push(StatusChange { status, at, reason: reason.to_owned(), by_hand: None });
    }
}
