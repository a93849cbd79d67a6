//! Gives the improvement loop the bundled suite.

use std::sync::Arc;

use async_trait::async_trait;
use milepost_improve::host::{Assignment, EnvironmentKind, Judging, PlayRequest, Played, SuiteSession, TaskSuite, Template, TemplateInfo};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{Error, NoListener, Policy, Source, Verdicts};
use milepost_suites::bundled;
use milepost_suites::play::Player;

use super::error::host_error;
use crate::config::Config;
use crate::suite::{EpisodeEnvironment, play, play_outcome};

/// The bundled suite, for the improvement loop.
pub struct BundledSuite {
    config: Config,
    templates: Vec<Template>,
}

impl BundledSuite {
    /// Lists the suite's templates.
    pub fn new(config: &Config) -> Self {
        let info = |template: &milepost_suites::Template| {
            Arc::new(TemplateInfo {
                id: template.id.to_owned(),
                site: format!("{:?}", template.site),
                level: template.level.name().to_owned(),
                level_rank: template.level as usize,
                held_out: template.held_out,
            })
        };
        Self { config: config.clone(), templates: bundled().iter().map(info).collect() }
    }
}

/// Finds the suite's template that a template of the loop describes.
///
/// # Errors
/// The suite has no template with this id.
pub fn template_of(template: &Template) -> Result<&'static milepost_suites::Template, Error> {
    milepost_suites::template(&template.id).ok_or_else(|| Error::BadInput(format!("the suite has no template {:?}", template.id)))
}

#[async_trait]
impl TaskSuite for BundledSuite {
    fn templates(&self) -> Vec<Template> {
        self.templates.clone()
    }

    fn oracle(&self, assignment: &Assignment) -> milepost_improve::Result<Box<dyn Policy>> {
        Ok(Box::new(template_of(&assignment.template)?.instantiate(assignment.seed).oracle()))
    }

    fn source(&self, assignment: &Assignment) -> milepost_improve::Result<Source> {
        Ok(template_of(&assignment.template)?.source(assignment.seed))
    }

    async fn open(&self, environment: EnvironmentKind) -> milepost_improve::Result<Box<dyn SuiteSession>> {
        let environment = EpisodeEnvironment::open(environment, &self.config).await.map_err(host_error)?;
        Ok(Box::new(Session { environment, config: self.config.clone() }))
    }
}

/// An open environment for episodes of the suite.
struct Session {
    environment: EpisodeEnvironment,
    config: Config,
}

#[async_trait]
impl SuiteSession for Session {
    async fn play(&mut self, assignment: &Assignment, request: PlayRequest<'_>) -> milepost_improve::Result<Played> {
        let PlayRequest { policy, verifier, store, generation, limits, judging, cancel } = request;
        let instance = template_of(&assignment.template)?.instantiate(assignment.seed);
        let player = Player { policy, verifier, store, screenshots: Screenshots::Off, generation, cancel };
        let Self { environment, config } = self;
        match judging {
            Judging::Outcome => {
                let played = play_outcome(&instance, assignment.sampling, environment, &player, &limits, config).await;
                let episode = played.map_err(host_error)?;
                Ok(Played { solved: episode.success == Some(true), episode, verdicts: Verdicts::default() })
            }
            Judging::GroundTruth => {
                let config = Config { limits, ..config.clone() };
                let played = play(&instance, assignment.sampling, environment, &player, &config, &mut NoListener).await;
                let played = played.map_err(host_error)?;
                Ok(Played { episode: played.episode, solved: played.solved, verdicts: played.verdicts })
            }
        }
    }

    async fn close(self: Box<Self>) -> milepost_improve::Result<()> {
        self.environment.close().await.map_err(host_error)
    }
}
