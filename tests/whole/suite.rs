//! The suite: every template's oracle solves it, and every reference milestone is seen when the server has it, not before.

use milepost::commands::suite::episode::{Place, Player, play};
use milepost::config::Config;
use milepost_runtime::config::Screenshots;
use milepost_runtime::{NoListener, SqliteStore};
use milepost_suites::bundled;

/// Test seeds a template.
const SEEDS: u64 = 20;

#[tokio::test]
async fn the_oracle_solves_every_template_and_every_milestone_is_verified_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let config = Config::default();
    let (_keep, cancel) = tokio::sync::watch::channel(false);
    let player = Player { policy: None, verifier: None, store: &store, screenshots: Screenshots::Off, generation: "oracle".into(), cancel };
    let mut wrong = Vec::new();
    for template in bundled() {
        for seed in 10_000..10_000 + SEEDS {
            let instance = template.instantiate(seed);
            let played = play(&instance, seed, &mut Place::Plain, &player, &config, &mut NoListener).await.unwrap();
            let count = instance.milestones().len() as u64;
            let milestones = (played.milestones.verified, played.milestones.reached, played.milestones.premature);
            if !played.solved || milestones != (count, count, 0) {
                wrong.push(format!(
                    "{} {seed}: solved {}, milestones {milestones:?} of {count}, {:?}",
                    template.id, played.solved, played.episode.stop
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} episodes: {wrong:#?}", wrong.len(), bundled().len() as u64 * SEEDS);
}
