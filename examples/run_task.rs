//! Runs one task on a bundled site from a program: `cargo run --example run_task`.

use anyhow::{Context, Result};
use milepost::terminal::LiveView;
use milepost::{config, model, wiring};
use milepost_runner::{TaskRun, run_task};
use milepost_tools::mcp::McpTools;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    let config = config::load(None)?;
    let name = std::env::args().nth(1).unwrap_or_else(|| "shop_price".into());
    let template = milepost_suites::template(&name).with_context(|| format!("there is no template {name:?}"))?;
    let instance = template.instantiate(10_001);
    let site = instance.serve().await?;

    let run = TaskRun {
        task: instance.task(&site.url)?,
        planner: config.policy.planner,
        seed: 1,
        model: &model::load(&config).await?,
        secrets: instance.bound_secrets(&site.url),
        mcp: &McpTools::default(),
        store: &wiring::store(&config).await?,
        cancel: CancellationToken::new(),
    };
    let (episode, _) = run_task(run, &wiring::run_settings(&config), &mut LiveView::new(std::io::stdout(), false)).await?;
    println!("solved, by the site's own state: {}", instance.success(episode.answer.as_deref()));
    Ok(())
}
