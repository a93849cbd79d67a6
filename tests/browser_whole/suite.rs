//! Every template of the suite in Chromium: its oracle solves it there, and the agent reads the same pages as with the plain reader.

use std::sync::Arc;

use milepost::suite::{EpisodeEnvironment, InProcess, play};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{Environment, Episode, NoListener, Observation, Secrets, SqliteStore};
use milepost_suites::bundled;
use milepost_suites::play::Player;
use milepost_tools::browser::BrowserEnvironment;
use milepost_tools::plain::PlainEnvironment;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Renders the pages of an episode as the agent reads them, without their addresses.
fn rendered_pages(episode: &Episode) -> Vec<String> {
    episode.steps.iter().map(|step| step.observation.render(200)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reads_the_same_in_chromium_and_in_the_plain_reader_on_every_template() {
    let directory = tempfile::tempdir().unwrap();
    let config = super::config(directory.path());
    let store = SqliteStore::open(&config.episodes.directory).await.unwrap();
    let cancel = CancellationToken::new();
    let player = Player { policy: None, verifier: None, store: &store, screenshots: Screenshots::Off, generation: "oracle".into(), cancel };
    let browser = BrowserEnvironment::launch(&config.browser, Secrets::default()).await.unwrap();
    let mut environment = EpisodeEnvironment::Browser(Box::new(browser));
    for (index, template) in bundled().iter().enumerate() {
        let seed = 10_100 + index as u64;
        let there = template.instantiate(seed);
        let in_browser = play(&there, seed, &mut environment, &player, &config, &mut NoListener).await.unwrap();
        let here = template.instantiate(seed);
        let in_plain = play(&here, seed, &mut EpisodeEnvironment::Plain, &player, &config, &mut NoListener).await.unwrap();
        assert!(in_browser.solved, "{} {seed}: {:?}", template.id, in_browser.episode.stop);
        assert_eq!(in_browser.milestones, in_plain.milestones, "{} {seed}", template.id);
        for (browser, plain) in rendered_pages(&in_browser.episode).iter().zip(rendered_pages(&in_plain.episode)) {
            assert_eq!(*browser, plain, "{} {seed}", template.id);
        }
    }
    environment.close().await.unwrap();
}

/// Lists the properties of a page's elements that both environments must report alike: id, role, name, value, number of options.
fn elements(observation: &Observation) -> Vec<(u32, String, String, Option<String>, usize)> {
    observation.elements.iter().map(|e| (e.id, e.role.clone(), e.name.clone(), e.value.clone(), e.options.len())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_of_every_template_has_the_same_elements_in_chromium_and_in_the_plain_reader() {
    let directory = tempfile::tempdir().unwrap();
    let config = super::config(directory.path());
    let mut browser = BrowserEnvironment::launch(&config.browser, Secrets::default()).await.unwrap();
    for template in bundled() {
        let instance = template.instantiate(10_200);
        let served = instance.serve().await.unwrap();
        browser.reset(&instance.task(&served.url).unwrap()).await.unwrap();
        let seen = browser.observe().await.unwrap();
        let mut plain = PlainEnvironment::new(Arc::new(InProcess(instance.router())), Secrets::default());
        plain.reset(&instance.task(&Url::parse("http://site.local/").unwrap()).unwrap()).await.unwrap();
        assert_eq!(elements(&seen), elements(&plain.observe().await.unwrap()), "{}", template.id);
    }
    browser.close().await.unwrap();
}
