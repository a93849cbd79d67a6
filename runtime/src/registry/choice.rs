//! The choice of the adapter that serves: it is configured, found in the registry or in a directory, and checked against its registration.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{AdapterRegistry, DirectoryRegistry, Record, read_probes};
use crate::call::Generation;
use crate::error::{Error, Result};
use crate::traits::Probes;

/// The adapter that the configuration chooses to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AdapterChoice {
    /// The generation in service on this model, where there is one.
    #[default]
    Current,
    /// None: the base model.
    None,
    /// A directory, or a generation's id.
    Named(String),
}

impl From<String> for AdapterChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "current" => Self::Current,
            "none" => Self::None,
            _ => Self::Named(text),
        }
    }
}

impl From<AdapterChoice> for String {
    fn from(choice: AdapterChoice) -> Self {
        match choice {
            AdapterChoice::Current => "current".into(),
            AdapterChoice::None => "none".into(),
            AdapterChoice::Named(text) => text,
        }
    }
}

/// An adapter that was chosen to serve.
#[derive(Debug)]
pub struct ChosenAdapter {
    /// Its directory.
    pub directory: PathBuf,
    /// The probes that it must answer; only an adapter from outside the registry may have none.
    pub probes: Option<Probes>,
    /// Its record in the registry, where it has one.
    pub record: Option<Record>,
    /// How to start without the adapter, for error messages.
    pub way_out: &'static str,
}

const CURRENT: &str = "`milepost adapters rollback` goes back to the one before, `adapter: none` serves the base";
const NAMED: &str = "`adapter: current` and `adapter: none` do without it";

impl ChosenAdapter {
    /// Finds the adapter that the configuration chooses; `None` means that the base serves. `base` returns the generation of the base
    /// model; it is called only if the registry must be searched for that base, since it hashes the weights.
    ///
    /// # Errors
    /// The name is neither a directory nor a generation, the generation's files are not there, or the base cannot be read.
    pub async fn find<E: From<Error>>(
        registry: &DirectoryRegistry,
        choice: &AdapterChoice,
        base: impl FnOnce() -> Result<Generation, E>,
    ) -> Result<Option<Self>, E> {
        let record = match choice {
            AdapterChoice::None => return Ok(None),
            AdapterChoice::Current if !registry.root().is_dir() => return Ok(None),
            AdapterChoice::Current => match registry.current(&base()?).await? {
                Some(record) => record,
                None => return Ok(None),
            },
            AdapterChoice::Named(name) if Path::new(name).is_dir() => return Ok(Some(Self::from_directory(name.into())?)),
            AdapterChoice::Named(name) => match registry.get(name).await? {
                Some(record) => record,
                None => {
                    let problem = format!(
                        "`adapter`: {name:?} is neither a directory nor a generation; `milepost adapters list` shows those that there are"
                    );
                    return Err(Error::BadInput(problem).into());
                }
            },
        };
        let directory = registry.directory(&record.id);
        let probes = read_probes(&directory)?.unwrap_or_default();
        let way_out = if *choice == AdapterChoice::Current { CURRENT } else { NAMED };
        Ok(Some(Self { directory, probes: Some(probes), record: Some(record), way_out }))
    }

    fn from_directory(directory: PathBuf) -> Result<Self> {
        let probes = read_probes(&directory)?;
        if probes.is_none() {
            tracing::warn!(adapter = %directory.display(), "it has no probes.json: it serves without proof of being what was trained");
        }
        Ok(Self { directory, probes, record: None, way_out: NAMED })
    }

    /// Checks that the served generation is the one that was registered.
    ///
    /// # Errors
    /// Files, model, tokenizer or prompts differ from those that the generation was registered with.
    pub fn check(&self, served: &Generation) -> Result<()> {
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

    /// Returns the sentence that introduces the error of an adapter that cannot serve: it names the adapter and says how to start without
    /// it.
    pub fn refusal(&self) -> String {
        let (directory, way_out) = (self.directory.display(), self.way_out);
        match &self.record {
            Some(record) => format!("generation {} in {directory} cannot serve ({way_out})", record.id),
            None => format!("the adapter in {directory} cannot serve ({way_out})"),
        }
    }
}
