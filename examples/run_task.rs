//! Runs one task on a bundled site from a program: `cargo run --example run_task`.

use anyhow::Result;
use milepost::commands::suite::find;
use milepost::config;
use milepost::live::LiveView;
use milepost::wiring::{self, Mind};
use milepost_runtime::{Agent, Environment, Secrets};

#[tokio::main]
async fn main() -> Result<()> {
    let config = config::load(None)?;
    let template = std::env::args().nth(1).unwrap_or_else(|| "shop_price".into());
    let instance = find(&template)?.instantiate(10_001);
    let site = instance.serve().await?;

    let mut secrets = Secrets::default();
    for (name, value) in instance.secrets() {
        secrets.add(name, value, &site.url);
    }
    let mind = Mind::load(&config).await?;
    let policy = mind.policy(config.policy.planner, &config);
    let store = wiring::store(&config).await?;
    let mut browser = wiring::browser(&config, secrets).await?;
    let (_keep, cancel) = tokio::sync::watch::channel(false);

    let agent = Agent {
        policy: &policy,
        verifier: Some(&mind.verifier),
        environment: &mut browser,
        tools: &wiring::tools(&config)?,
        store: &store,
        listener: &mut LiveView::new(std::io::stdout(), false),
        overseer: None,
        cancel,
        screenshots: config.episodes.screenshots,
        generation: mind.engine.generation().id(),
        seed: 1,
    };
    let episode = agent.run(instance.task(&site.url)?).await?;
    browser.close().await?;
    println!("solved, by the site's own state: {}", instance.success(episode.answer.as_deref()));
    Ok(())
}
