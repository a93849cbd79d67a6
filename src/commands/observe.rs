//! `milepost observe`: prints a page as the model would see it.

use std::time::Instant;

use anyhow::Result;
use milepost_runtime::{Environment, Task};
use serde_json::json;

use crate::cli::ObserveArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::print_json;
use crate::wiring;

/// Opens a page and prints its observation.
pub async fn observe(args: ObserveArgs, config: Config) -> Result<Exit> {
    let task = Task::new("look at the page", &args.url)?;
    let mut browser = wiring::browser(&config, config.secrets()?).await?;
    let seen = async {
        browser.reset(&task).await?;
        let clock = Instant::now();
        browser.observe().await.map(|observation| (observation, clock.elapsed()))
    }
    .await;
    browser.close().await?;
    let (observation, elapsed) = seen?;
    match args.json {
        false => println!("{}", observation.render(config.policy.page_lines)),
        true => {
            let elements: Vec<_> = observation
                .elements
                .iter()
                .map(|element| {
                    json!({ "id": element.id, "role": element.role, "name": element.name, "value": element.value,
                            "state": element.state, "frame": element.frame })
                })
                .collect();
            print_json(&json!({ "url": observation.url, "title": observation.title, "elements": elements, "text": observation.text,
                "truncated": observation.truncated, "elapsed_ms": elapsed.as_secs_f64() * 1e3 }))?;
        }
    }
    Ok(Exit::Done)
}
