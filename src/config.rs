//! The whole configuration, composed of the sections of all crates. Defaults come first, a YAML file overrides them, and variables `MILEPOST_…`
//! override both.

mod replaced;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use figment::error::Kind;
use figment::providers::{Env, Serialized};
use figment::{Figment, Provider};
use milepost_engines::{LocalModelConfig, RemoteModelConfig};
use milepost_improve::config::ImproveConfig;
use milepost_improve::failures::FailureConfig;
use milepost_learners::sft::SftConfig;
use milepost_planners::{JudgeConfig, PlannersConfig};
use milepost_runtime::config::EpisodesConfig;
use milepost_runtime::registry::AdapterChoice;
use milepost_runtime::{Limits, Secrets};
use milepost_server::config::ServeConfig;
use milepost_service::ServiceConfig;
use milepost_suites::GroundTruthConfig;
use milepost_tools::browser::BrowserConfig;
use milepost_tools::mcp::McpServerConfig;
use serde::{Deserialize, Serialize};

use self::replaced::{Layer, REPLACED_KEYS, ReplacedKey, Source, move_replaced};

/// The engine that computes the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// An engine in this process.
    #[default]
    Local,
    /// A server that speaks the OpenAI protocol.
    Remote,
}

/// Where a secret's value is, and where it may be typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretConfig {
    /// The source of the value: `env:VARIABLE` or `file:PATH`.
    pub from: String,
    /// The only origin that the value may be typed on, such as `https://desk.example.org`.
    pub origin: url::Url,
}

/// All settings of the program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The engine that computes the model.
    pub engine: EngineKind,
    /// The adapter that is in service.
    pub adapter: AdapterChoice,
    /// The model on this machine.
    pub local: LocalModelConfig,
    /// The model on a server.
    pub remote: RemoteModelConfig,
    /// The planner and its prompts.
    pub policy: PlannersConfig,
    /// The model as a judge.
    pub judge: JudgeConfig,
    /// The limits of a run.
    pub limits: Limits,
    /// The store of episodes.
    pub episodes: EpisodesConfig,
    /// The browser.
    pub browser: BrowserConfig,
    /// The ground-truth judge of the suite.
    pub suite: GroundTruthConfig,
    /// The rules that classify failures.
    pub failures: FailureConfig,
    /// Supervised training.
    pub learn: SftConfig,
    /// The improvement loop.
    pub improve: ImproveConfig,
    /// The daemon's queue.
    pub service: ServiceConfig,
    /// The daemon's interfaces.
    pub serve: ServeConfig,
    /// The MCP servers whose tools the agent may call, by name.
    pub mcp: BTreeMap<String, McpServerConfig>,
    /// The secrets, by name.
    pub secrets: BTreeMap<String, SecretConfig>,
}

impl Config {
    /// Returns the directory of the base weights, which adapters are trained on; `None` if only a server has them.
    pub fn base(&self) -> Option<&Path> {
        match self.engine {
            EngineKind::Local => Some(Path::new(&self.local.model)),
            EngineKind::Remote => self.remote.base.as_deref(),
        }
    }

    /// Returns the name by which the engine knows the model.
    pub fn model(&self) -> &str {
        match self.engine {
            EngineKind::Local => &self.local.model,
            EngineKind::Remote => &self.remote.model,
        }
    }
}

/// The file that is read if none is named.
pub const DEFAULT_FILE: &str = "config.yaml";

/// Loads the configuration. Warnings about replaced keys are printed to stderr.
///
/// # Errors
/// A named file does not exist, the file is no YAML, a key is unknown (the message names the nearest valid one), a value has a wrong type, or a
/// replaced key is given together with its successor.
pub fn load(file: Option<&Path>) -> Result<Config> {
    let file: Option<PathBuf> = match file {
        Some(file) if file.is_file() => Some(file.to_owned()),
        Some(file) => bail!("the configuration file {} does not exist; name another with --config", file.display()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.is_file()),
    };
    let environment = Env::prefixed("MILEPOST_").ignore(&["log", "token", "server", "cuda", "bench_python"]).split("__");
    let (config, warnings) = combine(file, environment, REPLACED_KEYS)?;
    warnings.iter().for_each(|warning| eprintln!("milepost: warning: {warning}"));
    Ok(config)
}

/// Combines the defaults with a file and the environment; returns a warning for each replaced key as well.
fn combine(file: Option<PathBuf>, environment: impl Provider, replaced: &[ReplacedKey]) -> Result<(Config, Vec<String>)> {
    let explained = |error: Box<figment::Error>| explain(*error, file.as_deref());
    let mut layers = Vec::new();
    if let Some(file) = &file {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read; check its permissions", file.display()))?;
        let values = parse(&text).with_context(|| format!("{} is not valid YAML", file.display()))?;
        layers.push(Layer::read(Source::File(file.clone()), Serialized::defaults(values)).map_err(explained)?);
    }
    layers.push(Layer::read(Source::Environment, environment).map_err(explained)?);
    let warnings = move_replaced(&mut layers, replaced)?;
    let figment = layers.into_iter().fold(Figment::from(Serialized::defaults(Config::default())), Figment::merge);
    // The values are extracted first, because figment's own deserializer would compile the code of every section six times.
    let value = figment.extract::<figment::value::Value>().map_err(|error| explained(Box::new(error)))?;
    Ok((Config::deserialize(&value).map_err(|error| explained(Box::new(error)))?, warnings))
}

/// Parses YAML; an empty file is an empty map.
fn parse(text: &str) -> Result<serde_json::Value> {
    Ok(match serde_norway::from_str::<serde_json::Value>(text)? {
        serde_json::Value::Null => serde_json::json!({}),
        value => value,
    })
}

/// Turns an error of the configuration into one that names the file, the key and what would be right.
fn explain(error: figment::Error, file: Option<&Path>) -> anyhow::Error {
    let place = file.map_or("the environment".to_owned(), |file| file.display().to_string());
    let Some(error) = error.into_iter().next() else { return anyhow::anyhow!("{place}: the configuration cannot be read") };
    let mut path = error.path.join(".");
    if let Some(message) = match &error.kind {
        Kind::UnknownField(field, known) => {
            // The path ends with the key itself or with its section.
            if error.path.last() != Some(field) {
                path = [&path[..], field].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            }
            let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(a, field).total_cmp(&strsim::jaro_winkler(b, field)));
            let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
            Some(format!("{place}: there is no key `{path}`{hint}"))
        }
        Kind::InvalidType(found, expected) => Some(format!("{place}: `{path}` must be {expected}, but is {found}")),
        Kind::InvalidValue(found, expected) => Some(format!("{place}: `{path}` must be {expected}, but is {found}")),
        Kind::UnknownVariant(found, known) => Some(format!("{place}: `{path}` is {found:?}; use one of {}", known.join(", "))),
        _ => None,
    } {
        return anyhow::anyhow!(message);
    }
    anyhow::anyhow!("{place}: `{path}`: {}", error.kind)
}

impl Config {
    /// Reads the values of the configured secrets.
    ///
    /// # Errors
    /// A variable is not set, or a file cannot be read.
    pub fn secrets(&self) -> Result<Secrets> {
        let mut secrets = Secrets::default();
        for (name, secret) in &self.secrets {
            secrets.add(name, &secret_value(name, &secret.from)?, &secret.origin);
        }
        Ok(secrets)
    }
}

/// Reads a secret's value from `env:VARIABLE` or `file:PATH`.
///
/// # Errors
/// The source is neither of these, the variable is not set, the file cannot be read, or the value is too short to be hidden.
pub fn secret_value(name: &str, from: &str) -> Result<String> {
    let value = match from.split_once(':') {
        Some(("env", variable)) => {
            std::env::var(variable).with_context(|| format!("secret {name:?}: the variable {variable} is not set; export it first"))?
        }
        Some(("file", path)) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches('\n').to_owned())
            .with_context(|| format!("secret {name:?}: the file {path} cannot be read"))?,
        _ => bail!("secret {name:?}: {from:?} is no source; use env:VARIABLE or file:PATH"),
    };
    Secrets::can_be_hidden(name, &value)?;
    Ok(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check_error(text: &str, expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        std::fs::write(&file, text).unwrap();
        let message = format!("{:#}", load(Some(&file)).unwrap_err());
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("c.yaml"), "{message}");
    }

    #[test]
    fn the_shipped_file_holds_the_defaults_and_every_key() {
        let text = include_str!("../config.yaml");
        let config: Config = serde_json::from_value(parse(text).unwrap()).unwrap();
        assert_eq!(config, Config::default());
        let written = parse(text).unwrap();
        let known = serde_json::to_value(Config::default()).unwrap();
        for (section, keys) in known.as_object().unwrap() {
            assert!(written.get(section).is_some(), "section {section} is missing in config.yaml");
            for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
                assert!(written[section].get(key).is_some(), "{section}.{key} is missing in config.yaml");
            }
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        check_error("browser:\n  headles: false\n", "did you mean `headless`?");
        check_error("enginee: local\n", "did you mean `engine`?");
    }

    #[test]
    fn a_wrong_type_names_key_and_type() {
        check_error("limits:\n  max_steps: many\n", "`limits.max_steps`");
        check_error("policy:\n  planner: oracle\n", "adaplan");
        check_error("a: [1\n", "not valid YAML");
    }

    #[test]
    fn a_replaced_key_is_read_as_its_successor_and_the_environment_overrides_the_file() {
        const REPLACED: &[ReplacedKey] = &[ReplacedKey { old: "bounds.actions", new: "limits.max_steps" }];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        std::fs::write(&file, "bounds: {actions: 7}\nlimits: {max_seconds: 9}\n").unwrap();
        let load = |environment: serde_json::Value| combine(Some(file.clone()), Serialized::defaults(environment), REPLACED);
        let (config, warnings) = load(serde_json::json!({})).unwrap();
        assert_eq!((config.limits.max_steps, config.limits.max_seconds), (7, 9));
        assert!(warnings.len() == 1 && warnings[0].contains("c.yaml") && warnings[0].contains("`limits.max_steps`"), "{warnings:?}");
        let (config, warnings) = load(serde_json::json!({ "bounds": { "actions": 8 } })).unwrap();
        assert_eq!((config.limits.max_steps, warnings.len()), (8, 2));
        let error = load(serde_json::json!({ "limits": { "max_steps": 8 } })).unwrap_err().to_string();
        assert!(error.contains("`bounds.actions`") && error.contains("`MILEPOST_LIMITS__MAX_STEPS`"), "{error}");
    }
}
