//! Keeps the generations of a hub id whose base was registered as the hash of the id's name; the reasons are in the registry's
//! documentation.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::directory::{DirectoryRegistry, RECORD};
use super::{AdapterRegistry, LINEAGE, files};
use crate::call::Generation;
use crate::error::Result;

/// The base of a registered adapter, as its record contains it.
#[derive(Deserialize)]
struct RecordedBase {
    base: String,
    registered_base: Option<String>,
}

/// Returns the [`registered_base`](Generation::registered_base) under which an adapter directory serves on the base `base`: the one in the
/// directory's record, if the record has this base, or `former`, the hash of the model's name, if the record still has that as its base.
/// Returns `None` for a directory that no registry wrote, or whose record has another base.
///
/// # Errors
/// The record cannot be read.
pub fn registered_base(adapter: &Path, base: &str, former: Option<&str>) -> Result<Option<String>> {
    let Some(recorded) = files::read_json::<RecordedBase>(&adapter.join(RECORD))? else { return Ok(None) };
    Ok(match recorded.registered_base {
        Some(registered) => Some(registered).filter(|_| recorded.base == base),
        None => Some(recorded.base).filter(|recorded| former == Some(recorded)),
    })
}

impl DirectoryRegistry {
    /// Returns the base under which the registry records the generation in service on a model: `base`, or, as long as no generation was put
    /// into service under the weights' own hash and [`rebase`](Self::rebase) has not run, the base whose weights are `former`, the hash of
    /// the model's name.
    ///
    /// # Errors
    /// `current.json` is damaged.
    pub fn recorded_base(&self, base: Generation, former: Option<&str>) -> Result<Generation> {
        let pointers = self.pointers()?;
        let former = former.filter(|former| pointers.0.contains_key(*former) && !pointers.0.contains_key(base.weights()));
        Ok(match former {
            Some(former) => Generation { base: former.to_owned(), ..base },
            None => base,
        })
    }

    /// Rewrites the records whose weights are `former`, the hash of a hub id's name, so that they hold the weights of `base`. Their ids
    /// stay. It is called after a successful start on this model; every later call changes nothing. Returns how many records were
    /// rewritten.
    ///
    /// Whenever the process dies, the next call completes the change: each file is replaced atomically, and `current.json`, which
    /// [`recorded_base`](Self::recorded_base) reads, comes last.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub fn rebase(&self, former: &str, base: &Generation) -> Result<usize> {
        let weights = base.weights();
        let is_former = |generation: &Generation| generation.weights() == former;
        let unchanged = !self.pointers()?.0.contains_key(former) && !self.records()?.iter().any(|record| is_former(&record.generation));
        if unchanged || weights == former {
            return Ok(0);
        }
        let (_lock, mut pointers) = self.change()?;
        let mut rewritten = 0;
        for mut record in self.records()?.into_iter().filter(|record| is_former(&record.generation)) {
            rewrite_lineage(&self.directory(&record.id).join(LINEAGE), former, weights)?;
            let registered = std::mem::take(&mut record.generation.base);
            record.generation.base = registered.replacen(former, weights, 1);
            record.generation.registered_base = Some(registered);
            self.write(&record)?;
            rewritten += 1;
        }
        if let Some(pointer) = pointers.0.remove(former) {
            pointers.0.entry(weights.to_owned()).or_insert(pointer);
            self.commit(&pointers)?;
        }
        tracing::info!(
            generations = rewritten,
            former,
            base = weights,
            "generations of a hub id are recorded under the hash of its weights from now on"
        );
        Ok(rewritten)
    }
}

/// Replaces the base weights in the lineage of an adapter, if they are `former`. Everything else that the lineage holds stays.
fn rewrite_lineage(path: &Path, former: &str, weights: &str) -> Result<()> {
    let Some(mut lineage) = files::read_json::<Value>(path)?.filter(|lineage| lineage["base"] == former) else { return Ok(()) };
    lineage["base"] = weights.into();
    files::write_json(path, &lineage)
}
