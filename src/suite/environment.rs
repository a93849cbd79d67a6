//! The environments in which suite episodes run: real Chromium, and the plain reader in this process.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use milepost_improve::host::EnvironmentKind;
use milepost_runtime::{Environment, Episode, Limits, Listener, NoListener, Secrets};
use milepost_suites::Instance;
use milepost_suites::play::{PlaySettings, Played, Player, PreparedEnvironment, SuiteEnvironment};
use milepost_tools::browser::BrowserEnvironment;
use milepost_tools::plain::PlainEnvironment;
use url::Url;

use super::in_process::{InProcess, InProcessFetch};
use crate::config::Config;
use crate::wiring;

/// The base URL of a site that the plain reader reads without a socket.
const PLAIN_BASE: &str = "http://site.local/";

/// An opened environment for suite episodes.
pub enum EpisodeEnvironment {
    /// Real Chromium, one session for many episodes.
    Browser(Box<BrowserEnvironment>),
    /// The plain reader in the process.
    Plain,
}

impl EpisodeEnvironment {
    /// Opens an environment of this kind.
    ///
    /// # Errors
    /// The browser cannot be started.
    pub async fn open(kind: EnvironmentKind, config: &Config) -> Result<Self> {
        Ok(match kind {
            EnvironmentKind::Browser => Self::Browser(Box::new(wiring::browser(config, Secrets::default()).await?)),
            EnvironmentKind::Plain => Self::Plain,
        })
    }

    /// Returns the environment as the interface that the suite uses.
    fn as_suite_environment<'a>(&'a mut self, config: &'a Config) -> Box<dyn SuiteEnvironment + 'a> {
        match self {
            Self::Browser(browser) => Box::new(BrowserSuite { browser, config }),
            Self::Plain => Box::new(PlainSuite::default()),
        }
    }

    /// Closes the browser, if there is one.
    ///
    /// # Errors
    /// The browser cannot be closed cleanly.
    pub async fn close(self) -> Result<()> {
        if let Self::Browser(mut browser) = self {
            browser.close().await?;
        }
        Ok(())
    }
}

/// Chromium on the instance's site, which is served on a loopback port.
struct BrowserSuite<'c> {
    browser: &'c mut BrowserEnvironment,
    config: &'c Config,
}

#[async_trait]
impl SuiteEnvironment for BrowserSuite<'_> {
    async fn prepare<'a>(&'a mut self, instance: &Instance) -> milepost_runtime::Result<PreparedEnvironment<'a>> {
        let served = instance.serve().await?;
        let base = served.url.clone();
        let tools = milepost_runner::browser::tools(self.config.browser.proxy.as_deref())?;
        self.browser.set_secrets(instance.bound_secrets(&base));
        Ok(PreparedEnvironment { environment: &mut *self.browser, tools, base, served: Some(served) })
    }
}

/// The plain reader on the instance's site, whose router is called in this process.
#[derive(Default)]
pub struct PlainSuite {
    /// The reader of the episode that was prepared last.
    reader: Option<PlainEnvironment>,
}

#[async_trait]
impl SuiteEnvironment for PlainSuite {
    async fn prepare<'a>(&'a mut self, instance: &Instance) -> milepost_runtime::Result<PreparedEnvironment<'a>> {
        let base = Url::parse(PLAIN_BASE).map_err(|error| milepost_runtime::Error::BadInput(format!("{PLAIN_BASE}: {error}")))?;
        let transport = Arc::new(InProcess(instance.router()));
        let reader = self.reader.insert(PlainEnvironment::new(transport.clone(), instance.bound_secrets(&base)));
        Ok(PreparedEnvironment { environment: reader, tools: vec![Arc::new(InProcessFetch(transport))], base, served: None })
    }
}

/// Plays one instance with the configured limits; see [`milepost_suites::play::play`]. The oracle's reference run uses the plain reader.
///
/// # Errors
/// The environment cannot be prepared, or the store cannot be written.
pub async fn play(
    instance: &Instance,
    seed: u64,
    environment: &mut EpisodeEnvironment,
    player: &Player<'_>,
    config: &Config,
    listener: &mut dyn Listener,
) -> Result<Played> {
    let settings = PlaySettings { limits: config.limits.clone(), ground_truth: config.suite.clone() };
    let mut suite_environment = environment.as_suite_environment(config);
    let mut reference = PlainSuite::default();
    Ok(milepost_suites::play::play(instance, seed, player, &settings, &mut *suite_environment, &mut reference, listener).await?)
}

/// Plays one instance within these limits, and judges it by the checker alone, without the ground-truth judge.
///
/// # Errors
/// The environment cannot be prepared, or the store cannot be written.
pub async fn play_outcome(
    instance: &Instance,
    seed: u64,
    environment: &mut EpisodeEnvironment,
    player: &Player<'_>,
    limits: &Limits,
    config: &Config,
) -> Result<Episode> {
    let mut suite_environment = environment.as_suite_environment(config);
    Ok(milepost_suites::play::play_outcome(instance, seed, player, limits, &mut *suite_environment, &mut NoListener).await?)
}
