//! A suite for the tests of this crate: templates, and no tasks to play.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::{Policy, Source, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ImproveConfig;
use crate::error::{Error, Result};
use crate::experiment::{ArmConfig, ExperimentHost};
use crate::host::{Assignment, EnvironmentKind, Host, SuiteSession, TaskSuite, Template, TemplateInfo};
use crate::settings::LoopSettings;

/// The levels of the suite.
pub const LEVELS: [&str; 3] = ["easy", "medium", "long"];

/// A suite with six templates a level, and a held-out one on the highest.
pub struct TestSuite;

#[async_trait]
impl TaskSuite for TestSuite {
    fn templates(&self) -> Vec<Template> {
        let of_level = |(rank, level): (usize, &&str)| {
            let template = |number: usize| (format!("{level}_{number}"), format!("site {}", number % 3), (*level).to_owned(), rank);
            (0..6).map(template).collect::<Vec<_>>()
        };
        let trained = LEVELS.iter().enumerate().flat_map(of_level).map(|template| (template, false));
        let held_out = (("held_out".to_owned(), "site 0".to_owned(), "long".to_owned(), 2), true);
        let info = |((id, site, level, level_rank), held_out)| Arc::new(TemplateInfo { id, site, level, level_rank, held_out });
        trained.chain([held_out]).map(info).collect()
    }

    fn oracle(&self, _: &Assignment) -> Result<Box<dyn Policy>> {
        panic!("no task of this suite is played")
    }

    fn source(&self, assignment: &Assignment) -> Result<Source> {
        let (template, seed) = (assignment.template.id.clone(), assignment.seed);
        Ok(Source { template, seed, split: Split::of(seed), held_out: assignment.template.held_out })
    }

    async fn open(&self, _: EnvironmentKind) -> Result<Box<dyn SuiteSession>> {
        Err(Error::Failed("no task of this suite is played".into()))
    }
}

/// A host of experiments whose settings have some of the program's sections.
pub struct TestHost;

/// The settings of [`TestHost`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TestSettings {
    local: TestModel,
    episodes: TestEpisodes,
    policy: TestPolicy,
    improve: ImproveConfig,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TestModel {
    model: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TestEpisodes {
    directory: PathBuf,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TestPolicy {
    planner: String,
    temperature: f64,
}

impl ExperimentHost for TestHost {
    fn suite(&self) -> &dyn TaskSuite {
        &TestSuite
    }

    fn default_settings(&self) -> Value {
        serde_json::to_value(TestSettings::default()).unwrap_or_default()
    }

    fn config(&self, settings: Value) -> Result<ArmConfig> {
        let read: TestSettings = serde_json::from_value(settings)?;
        Ok(ArmConfig { settings: serde_json::to_value(&read)?, improve: read.improve })
    }

    fn open(&self, _: &ArmConfig) -> Result<(Host, LoopSettings)> {
        Err(Error::Failed("no arm of this host is run".into()))
    }

    fn start_generation(&self, _: &ArmConfig) -> Result<String> {
        Ok("start".into())
    }
}
