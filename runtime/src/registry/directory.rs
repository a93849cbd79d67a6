//! A registry in a directory: `ID/` contains an adapter with its `generation.json`, and `current.json` says which generation serves.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::Utc;

use super::pointer::{Pointer, Pointers};
use super::{AdapterRegistry, Figure, Incumbent, Lineage, Record, Rollback, Status, files};
use crate::call::Generation;
use crate::error::{Error, Result};
use crate::hash::adapter_hash;

/// The name of the file in an adapter directory of the registry that contains its record.
pub(super) const RECORD: &str = "generation.json";
const CURRENT: &str = "current.json";
/// The lock file that every change of the registry holds.
const CHANGES: &str = "changes.lock";
/// The lock file that the registry's only updater holds.
const UPDATER: &str = "updater.lock";

/// The registry in a directory of this machine.
#[derive(Clone, Debug)]
pub struct DirectoryRegistry {
    root: PathBuf,
}

/// The lock of a registry's only updater; it is released when this value is dropped, or when the process ends.
#[derive(Debug)]
pub struct UpdaterLock {
    _file: File,
}

impl DirectoryRegistry {
    /// Opens the registry in `root`. The directory is created when the first generation is registered.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the directory of the registry.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the ids of the generations that serve, on all bases.
    ///
    /// # Errors
    /// `current.json` is damaged.
    pub fn serving(&self) -> Result<Vec<String>> {
        Ok(self.pointers()?.0.into_values().filter_map(|pointer| pointer.serving).collect())
    }

    /// Takes the lock of the registry's only updater.
    ///
    /// # Errors
    /// Another process has the lock; the error names that process.
    pub fn lock_updater(&self) -> Result<UpdaterLock> {
        let (path, mut file) = self.lock_file(UPDATER)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(files::failed(&path, "locked")(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The process id is only for the message, which is less precise without it.
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process".to_owned() } else { format!("process {}", holder.trim()) };
                let fix = "two updaters cannot work on one store; wait for it, or end it";
                return Err(Error::file(&self.root, format!("{holder} is updating these adapters: {fix}")));
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(files::failed(&path, "written"))?;
        Ok(UpdaterLock { _file: file })
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File)> {
        std::fs::create_dir_all(&self.root).map_err(files::failed(&self.root, "made"))?;
        let path = self.root.join(name);
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(files::failed(&path, "opened"))?;
        Ok((path, file))
    }

    pub(super) fn pointers(&self) -> Result<Pointers> {
        Ok(files::read_json(&self.root.join(CURRENT))?.unwrap_or_default())
    }

    pub(super) fn records(&self) -> Result<Vec<Record>> {
        if !self.root.is_dir() {
            return Ok(Vec::new());
        }
        let pointers = self.pointers()?;
        let mut records = Vec::new();
        for path in files::entries(&self.root)?.into_iter().filter(|path| path.is_dir() && !files::is_unfinished(path)) {
            if let Some(mut record) = files::read_json::<Record>(&path.join(RECORD))? {
                pointers.update_record(&mut record);
                records.push(record);
            }
        }
        records.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }

    fn find(&self, id: &str) -> Result<Option<Record>> {
        let mut found: Vec<Record> = self.records()?.into_iter().filter(|record| !id.is_empty() && record.id.starts_with(id)).collect();
        if let Some(exact) = found.iter().position(|record| record.id == id) {
            return Ok(Some(found.swap_remove(exact)));
        }
        Ok(if found.len() == 1 { found.pop() } else { None })
    }

    fn existing(&self, id: &str) -> Result<Record> {
        self.find(id)?.ok_or_else(|| {
            Error::BadInput(format!("there is no generation {id:?} (or several begin with it); `milepost adapters list` shows them"))
        })
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        files::write_json(&self.directory(&record.id).join(RECORD), record)
    }

    /// Starts a change: takes the lock, which is released when the file is dropped, and completes or removes the changes that a dead
    /// process left unfinished.
    pub(super) fn change(&self) -> Result<(File, Pointers)> {
        let (path, file) = self.lock_file(CHANGES)?;
        file.lock().map_err(files::failed(&path, "locked"))?;
        for path in files::entries(&self.root)?.into_iter().filter(|path| path.is_dir() && files::is_unfinished(path)) {
            std::fs::remove_dir_all(&path).map_err(files::failed(&path, "removed"))?;
        }
        let pointers = self.pointers()?;
        self.update_records(&pointers)?;
        Ok((file, pointers))
    }

    /// Brings the records up to date with the latest change of service.
    fn update_records(&self, pointers: &Pointers) -> Result<()> {
        for path in files::entries(&self.root)?.into_iter().filter(|path| path.is_dir()) {
            if let Some(mut record) = files::read_json::<Record>(&path.join(RECORD))?
                && pointers.update_record(&mut record)
            {
                self.write(&record)?;
            }
        }
        Ok(())
    }

    /// Replaces `current.json`, at which moment the change takes effect, and then brings the records up to date.
    pub(super) fn commit(&self, pointers: &Pointers) -> Result<()> {
        files::write_json(&self.root.join(CURRENT), pointers)?;
        self.update_records(pointers)
    }

    /// Takes the serving generation out of service, within a change. Returns the id of the generation that serves instead; `None` is the
    /// base.
    fn roll_back(&self, pointers: &mut Pointers, base: &Generation, reason: &str) -> Result<Option<String>> {
        let records = self.records()?;
        let pointer = pointers.0.entry(base.weights().to_owned()).or_default();
        if pointer.rollback(|id| is_good(&records, id), reason, Utc::now()).is_none() {
            return Err(Error::BadInput("no adapter serves on this model, so there is nothing to go back from".into()));
        }
        let serving = pointer.serving.clone();
        self.commit(pointers)?;
        Ok(serving)
    }
}

/// Whether a generation that served may serve again.
fn is_good(records: &[Record], id: &str) -> bool {
    records.iter().any(|record| record.id == id && record.status == Status::Promoted)
}

#[async_trait]
impl AdapterRegistry for DirectoryRegistry {
    async fn register(&self, directory: &Path, base: &Generation) -> Result<Record> {
        let lineage = Lineage::read(directory)?;
        lineage.check(directory, base)?;
        let generation = Generation { adapter: Some(adapter_hash(directory)?), parent: lineage.parent, ..base.base_model() };
        let (_lock, _) = self.change()?;
        if let Some(known) = self.records()?.into_iter().find(|record| record.generation.has_hashes_of(&generation)) {
            return Ok(known);
        }
        let created_at = Utc::now();
        let mut record = Record {
            id: generation.id(),
            generation,
            status: Status::Candidate,
            created_at,
            recipe: lineage.recipe,
            figures: Vec::new(),
            history: Vec::new(),
        };
        record.set(Status::Candidate, created_at, "registered");
        let unfinished = self.root.join(format!("{}{}", files::UNFINISHED, record.id));
        files::copy_files(directory, &unfinished)?;
        files::write_json(&unfinished.join(RECORD), &record)?;
        files::rename(&unfinished, &self.directory(&record.id))?;
        Ok(record)
    }

    async fn list(&self) -> Result<Vec<Record>> {
        self.records()
    }

    async fn get(&self, id: &str) -> Result<Option<Record>> {
        self.find(id)
    }

    fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    async fn measured(&self, id: &str, figure: Figure) -> Result<Record> {
        let (_lock, _) = self.change()?;
        let mut record = self.existing(id)?;
        record.figures.push(figure);
        self.write(&record)?;
        Ok(record)
    }

    async fn set_status(&self, id: &str, status: Status, reason: &str) -> Result<Record> {
        if matches!(status, Status::Promoted | Status::RolledBack) {
            return Err(Error::BadInput(format!("a generation becomes {} by being promoted or rolled back only", status.word())));
        }
        let (_lock, pointers) = self.change()?;
        let mut record = self.existing(id)?;
        if pointers.0.values().any(|pointer| pointer.serving.as_ref() == Some(&record.id)) {
            return Err(Error::BadInput(format!(
                "generation {} serves; `milepost adapters rollback` takes it out of service first",
                record.id
            )));
        }
        record.set(status, Utc::now(), reason);
        self.write(&record)?;
        Ok(record)
    }

    async fn promote(&self, id: &str, incumbent: Incumbent<'_>, reason: &str) -> Result<Record> {
        let (_lock, mut pointers) = self.change()?;
        let mut record = self.existing(id)?;
        if record.status == Status::Quarantined {
            let why = record.history.last().map_or("", |change| change.reason.as_str());
            return Err(Error::BadInput(format!("generation {} is quarantined and cannot serve: {why}; train another", record.id)));
        }
        let pointer: &mut Pointer = pointers.0.entry(record.generation.weights().to_owned()).or_default();
        let serving = pointer.serving.as_deref();
        let expected = match incumbent {
            Incumbent::Any => true,
            Incumbent::Base => serving.is_none(),
            Incumbent::Generation(id) => serving == Some(id),
        };
        if !expected {
            let serving = serving.unwrap_or("the base");
            return Err(Error::BadInput(format!("{serving} came into service in the meantime; compare {} with it first", record.id)));
        }
        if serving != Some(&record.id) {
            pointer.promote(&record.id, incumbent, reason, Utc::now());
            self.commit(&pointers)?;
        } else if incumbent == Incumbent::Any
            && let Some(promotion) = record.history.iter_mut().rev().find(|change| change.status == Status::Promoted)
        {
            // A person confirms a generation that a comparison put into service.
            promotion.by_hand = Some(true);
            self.write(&record)?;
        }
        self.existing(&record.id)
    }

    async fn rollback(&self, base: &Generation, reason: &str) -> Result<Option<Record>> {
        let (_lock, mut pointers) = self.change()?;
        let serving = self.roll_back(&mut pointers, base, reason)?;
        serving.map(|id| self.existing(&id)).transpose()
    }

    async fn rollback_of(&self, base: &Generation, id: &str, reason: &str) -> Result<Rollback> {
        let (_lock, mut pointers) = self.change()?;
        let serving = pointers.0.get(base.weights()).and_then(|pointer| pointer.serving.clone());
        if serving.as_deref() != Some(id) {
            return Ok(Rollback::NotServing { serving });
        }
        Ok(Rollback::Done { serving: self.roll_back(&mut pointers, base, reason)? })
    }

    async fn previous(&self, base: &Generation) -> Result<Option<Record>> {
        let Some(mut pointer) = self.pointers()?.0.remove(base.weights()) else { return Ok(None) };
        let mut records = self.records()?;
        pointer.rollback(|id| is_good(&records, id), "", Utc::now());
        let found = records.iter().position(|record| Some(&record.id) == pointer.serving.as_ref());
        Ok(found.map(|index| records.swap_remove(index)))
    }

    async fn current(&self, base: &Generation) -> Result<Option<Record>> {
        let pointers = self.pointers()?;
        let Some(id) = pointers.0.get(base.weights()).and_then(|pointer| pointer.serving.as_deref()) else { return Ok(None) };
        let record = self.find(id)?.filter(|record| record.id == id);
        record.map(Some).ok_or_else(|| {
            let fix = "put its directory back, or run `milepost adapters rollback`";
            Error::file(&self.directory(id), format!("is missing, though generation {id} should serve: {fix}"))
        })
    }
}
