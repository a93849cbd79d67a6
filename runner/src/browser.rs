//! Confines the browser and the tools to the hosts of a task.

use std::sync::Arc;

use milepost_runtime::{Result, Tool};
use milepost_tools::browser::BrowserConfig;
use milepost_tools::egress::{EgressProxy, EgressRules};
use milepost_tools::fetch::FetchTool;

/// Starts an egress proxy with these rules and puts the browser of this configuration behind it, so that the network enforces the allow-list
/// whatever a page tries. Returns `None` if the configuration has a proxy or a WebDriver server of its own, which is used unchanged.
///
/// # Errors
/// No port can be opened.
pub async fn confine(browser: &mut BrowserConfig, rules: EgressRules) -> Result<Option<EgressProxy>> {
    if browser.proxy.is_some() || browser.webdriver_url.is_some() {
        return Ok(None);
    }
    let proxy = EgressProxy::start(rules).await?;
    browser.proxy = Some(proxy.address().to_string());
    Ok(Some(proxy))
}

/// Creates the tools beside the browser, behind this proxy if there is one.
///
/// # Errors
/// The proxy's address cannot be used.
pub fn tools(proxy: Option<&str>) -> Result<Vec<Arc<dyn Tool>>> {
    Ok(vec![Arc::new(FetchTool::new(proxy)?)])
}
