//! The whole configuration, composed of the crates' sections: defaults, then a YAML file, then `MILEPOST_…` variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Serialized};
use milepost_engines::{LocalModelConfig, RemoteModelConfig};
use milepost_learners::failures::FailureConfig;
use milepost_learners::sft::SftConfig;
use milepost_planners::{JudgeConfig, PlannersConfig};
use milepost_runtime::config::EpisodesConfig;
use milepost_runtime::{Error, Limits, Secrets};
use milepost_service::ServiceConfig;
use milepost_suites::GroundTruthConfig;
use milepost_tools::browser::BrowserConfig;
use milepost_tools::mcp::McpServerConfig;
use serde::{Deserialize, Serialize};

use crate::improve::config::ImproveConfig;
use crate::serve::config::ServeConfig;

/// Which engine answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// mistralrs in this process.
    #[default]
    Local,
    /// A server that speaks the OpenAI protocol.
    Remote,
}

/// Which adapter serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AdapterChoice {
    /// The generation in service on this model, where there is one.
    #[default]
    Current,
    /// None: the base.
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

/// A secret by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretConfig {
    /// Where its value is: `env:VARIABLE` or `file:PATH`.
    pub from: String,
    /// The only origin it may be typed on, e.g. `https://desk.example.org`.
    pub origin: url::Url,
}

/// Every setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which engine answers.
    pub engine: EngineKind,
    /// Which adapter serves.
    pub adapter: AdapterChoice,
    /// The model on this machine.
    pub local: LocalModelConfig,
    /// The model on a server.
    pub remote: RemoteModelConfig,
    /// Planner and prompts.
    pub policy: PlannersConfig,
    /// The model as a judge.
    pub judge: JudgeConfig,
    /// Bounds on a run.
    pub limits: Limits,
    /// Where episodes are kept.
    pub episodes: EpisodesConfig,
    /// The browser.
    pub browser: BrowserConfig,
    /// The suite's own judgement of episodes.
    pub suite: GroundTruthConfig,
    /// When a failure is of which class.
    pub failures: FailureConfig,
    /// Supervised training.
    pub learn: SftConfig,
    /// The improvement loop.
    pub improve: ImproveConfig,
    /// The daemon's queue.
    pub service: ServiceConfig,
    /// The daemon's doors.
    pub serve: ServeConfig,
    /// MCP servers by name, whose tools the agent may call.
    pub mcp: BTreeMap<String, McpServerConfig>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretConfig>,
}

impl Config {
    /// Where the base weights are: what adapters are trained on and belong to. `None` where only a server has them.
    pub fn base(&self) -> Option<&Path> {
        match self.engine {
            EngineKind::Local => Some(Path::new(&self.local.model)),
            EngineKind::Remote => self.remote.base.as_deref(),
        }
    }

    /// [`Self::base`], where something is to be trained.
    ///
    /// # Errors
    /// A server's model whose weights are not here.
    pub fn weights(&self) -> Result<&Path, Error> {
        let problem = "adapters are trained on weights that are here; set `remote.base` to the directory of those that the server serves, or `engine: local`";
        self.base().ok_or_else(|| Error::BadInput(problem.into()))
    }

    /// The model's name, as the engine takes it.
    pub fn model(&self) -> &str {
        match self.engine {
            EngineKind::Local => &self.local.model,
            EngineKind::Remote => &self.remote.model,
        }
    }
}

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "config.yaml";

/// Loads the configuration.
///
/// # Errors
/// A named file that is missing, a file that is no YAML, an unknown key (with the nearest valid one), a wrong type.
pub fn load(file: Option<&Path>) -> Result<Config> {
    let file: Option<PathBuf> = match file {
        Some(file) if file.is_file() => Some(file.to_owned()),
        Some(file) => bail!("the configuration file {} does not exist; name another with --config", file.display()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.is_file()),
    };
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = &file {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read; check its permissions", file.display()))?;
        figment = figment.merge(Serialized::defaults(parse(&text).with_context(|| format!("{} is not valid YAML", file.display()))?));
    }
    let figment = figment.merge(Env::prefixed("MILEPOST_").ignore(&["log", "token", "server", "cuda", "bench_python"]).split("__"));
    // By way of figment's plain value: its own reader makes six copies of every section's code, for kinds of values that none has.
    let explained = |error| explain(error, file.as_deref());
    let value = figment.extract::<figment::value::Value>().map_err(explained)?;
    Config::deserialize(&value).map_err(explained)
}

/// Reads YAML; an empty file is an empty map.
fn parse(text: &str) -> Result<serde_json::Value> {
    Ok(match serde_norway::from_str::<serde_json::Value>(text)? {
        serde_json::Value::Null => serde_json::json!({}),
        value => value,
    })
}

fn explain(error: figment::Error, file: Option<&Path>) -> anyhow::Error {
    let place = file.map_or("the environment".to_owned(), |file| file.display().to_string());
    let Some(error) = error.into_iter().next() else { return anyhow::anyhow!("{place}: the configuration cannot be read") };
    let mut path = error.path.join(".");
    if let Some(message) = match &error.kind {
        Kind::UnknownField(field, known) => {
            // The path ends with the key itself, or with the section that it is in.
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
    /// Values of the configured secrets.
    ///
    /// # Errors
    /// A variable or file that is not there.
    pub fn secrets(&self) -> Result<Secrets> {
        let mut secrets = Secrets::default();
        for (name, secret) in &self.secrets {
            secrets.add(name, &secret_value(name, &secret.from)?, &secret.origin);
        }
        Ok(secrets)
    }
}

/// Reads a secret's value from `env:VARIABLE` or `file:PATH`.
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
}
