//! Observes one page without an agent.

use milepost_runtime::{Environment, Error, Observation, Result, Secrets, Task};
use milepost_tools::browser::{BrowserConfig, BrowserEnvironment};
use milepost_tools::egress::EgressRules;

use super::metered::MeteredBrowser;
use crate::browser;

/// Opens the task's page in a browser of its own, observes it, and closes the browser.
///
/// # Errors
/// The browser cannot be started or closed, or the page cannot be opened.
pub async fn observe(config: &BrowserConfig, task: &Task) -> Result<Observation> {
    let mut config = config.clone();
    let launch = async {
        let egress = browser::confine(&mut config, EgressRules::parse(&task.capability.hosts)?).await?;
        Ok::<_, Error>((egress, BrowserEnvironment::launch(&config, Secrets::default()).await?))
    };
    let with_fix =
        |error| Error::Environment(format!("the browser could not be started; `milepost doctor` shows what is missing: {error}"));
    let (_egress, browser) = launch.await.map_err(with_fix)?;
    let mut browser = MeteredBrowser(browser);
    let observed = async {
        browser.reset(task).await?;
        browser.observe().await
    }
    .await;
    browser.close().await?;
    observed
}
