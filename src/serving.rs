//! Which adapter serves: the configuration's choice, found in the registry or a directory, and held to what it was registered as.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use milepost_engines::{RemoteEngine, base_hash};
use milepost_runtime::registry::{Record, read_probes};
use milepost_runtime::{AdapterRegistry, Engine, Error, Generation, Probes};

use crate::config::{AdapterChoice, Config, EngineKind};
use crate::wiring;

/// An adapter that was chosen to serve.
pub struct Chosen {
    /// Its directory.
    pub directory: PathBuf,
    /// What it must prove; only an adapter from outside the registry may have nothing to prove.
    pub probes: Option<Probes>,
    /// What it was registered as, where it was.
    pub record: Option<Record>,
    /// How to do without it.
    way_out: &'static str,
}

const CURRENT: &str = "`milepost adapters rollback` goes back to the one before, `adapter: none` serves the base";
const NAMED: &str = "`adapter: current` and `adapter: none` do without it";

/// Finds the adapter that the configuration asks for; `None` serves the base.
///
/// # Errors
/// A name that is neither a directory nor a generation, or a generation whose files are not there.
pub async fn choose(config: &Config) -> Result<Option<Chosen>> {
    let registry = wiring::registry(config);
    let record = match &config.adapter {
        AdapterChoice::None => return Ok(None),
        // Without a registry there is nothing to find, and no weights need to be hashed for it.
        AdapterChoice::Current if !registry.root().is_dir() => return Ok(None),
        AdapterChoice::Current => match registry.current(&base(config)?).await? {
            Some(record) => record,
            None => return Ok(None),
        },
        AdapterChoice::Named(name) if Path::new(name).is_dir() => return Ok(Some(Chosen::from_directory(name.into())?)),
        AdapterChoice::Named(name) => match registry.get(name).await? {
            Some(record) => record,
            None => bail!(Error::BadInput(format!(
                "`adapter`: {name:?} is neither a directory nor a generation; `milepost adapters list` shows those that there are"
            ))),
        },
    };
    let directory = registry.directory(&record.id);
    let probes = read_probes(&directory)?.unwrap_or_default();
    let way_out = if config.adapter == AdapterChoice::Current { CURRENT } else { NAMED };
    Ok(Some(Chosen { directory, probes: Some(probes), record: Some(record), way_out }))
}

/// The base that the configured engine serves: its weights' hash, without loading it.
///
/// # Errors
/// A model that is missing or incomplete.
pub fn base(config: &Config) -> Result<Generation> {
    Ok(match config.engine {
        EngineKind::Local => Generation { base: base_hash(&config.local)?, ..Generation::default() },
        EngineKind::Remote => RemoteEngine::new(&config.remote)?.generation(),
    })
}

impl Chosen {
    fn from_directory(directory: PathBuf) -> Result<Self> {
        let probes = read_probes(&directory)?;
        if probes.is_none() {
            tracing::warn!(adapter = %directory.display(), "it has no probes.json: it serves without proof of being what was trained");
        }
        Ok(Self { directory, probes, record: None, way_out: NAMED })
    }

    /// Holds what serves to what was registered.
    ///
    /// # Errors
    /// Files, model, tokenizer or prompts that are no longer those that the generation was registered with.
    pub fn check(&self, served: &Generation) -> Result<(), Error> {
        let Some(record) = self.record.as_ref().filter(|record| record.id != served.id()) else { return Ok(()) };
        let known = &record.generation;
        let none = String::new();
        let parts = [
            ("base weights", &known.base, &served.base),
            ("tokenizer", &known.tokenizer, &served.tokenizer),
            ("chat template", &known.chat_template, &served.chat_template),
            ("prompts", &known.prompts, &served.prompts),
            ("adapter files", known.adapter.as_ref().unwrap_or(&none), served.adapter.as_ref().unwrap_or(&none)),
        ];
        let changed = parts.iter().filter(|(_, known, served)| known != served);
        let changed: Vec<String> = changed.map(|(what, known, served)| format!("{what} {known}, now {served}")).collect();
        Err(Error::Engine(format!("it was registered with other {}", changed.join("; "))))
    }

    /// The error of an adapter that cannot serve, with what to do.
    pub fn refuse(&self, error: Error) -> anyhow::Error {
        let (directory, way_out) = (self.directory.display(), self.way_out);
        anyhow::Error::new(error).context(match &self.record {
            Some(record) => format!("generation {} in {directory} cannot serve ({way_out})", record.id),
            None => format!("the adapter in {directory} cannot serve ({way_out})"),
        })
    }
}
