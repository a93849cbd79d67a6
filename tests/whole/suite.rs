//! Tests of the suite: the oracle solves every template, and every reference milestone is verified when the server's state has it, and not
//! before.

use milepost::config::Config;
use milepost::suite::{EpisodeEnvironment, play};
use milepost_learners::rewards::{Preset, compose};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{NoListener, PlanScores, SqliteStore, Verdicts};
use milepost_suites::bundled;
use milepost_suites::play::{Played, Player};
use tokio_util::sync::CancellationToken;

/// The number of test seeds per template.
const SEEDS: u64 = 20;

/// Returns the criteria of the ground truth that an oracle's episode does not meet; a complete episode meets all.
fn faults(played: &Played) -> Vec<&'static str> {
    let (verdicts, best) = (&played.verdicts, PlanScores { correctness: 5.0, executability: 5.0, standardization: 5.0 });
    let adheres = |step: &Option<milepost_runtime::Judged<f64>>| step.as_ref().is_some_and(|judged| judged.verdict == 2.0);
    let timely = verdicts.milestones.as_ref().is_some_and(|milestones| {
        milestones.reached.iter().all(|reached| reached.turn > 0 && reached.turn < played.episode.steps.len() as u32)
    });
    let checks = [
        ("complete", verdicts.completeness.as_ref().is_some_and(|judged| judged.verdict == [true])),
        ("efficient", verdicts.end_to_end.as_ref().is_some_and(|judged| judged.verdict == 2.0)),
        ("plan", verdicts.plan_quality.as_ref().is_some_and(|judged| judged.verdict == best)),
        ("adherence", verdicts.adherence.iter().all(adheres)),
        ("milestones", timely),
    ];
    checks.into_iter().filter_map(|(what, holds)| (!holds).then_some(what)).collect()
}

/// Returns the total reward of an episode under each preset that needs no expert.
fn rewards(played: &Played) -> Vec<String> {
    let presets = [Preset::Outcome, Preset::Rltr, Preset::RltrEndToEnd, Preset::Pilotrl1, Preset::Pilotrl2, Preset::Pilotrl3, Preset::Mira];
    let total = |preset: Preset| compose(&played.episode, &played.verdicts, &preset.config()).total().unwrap();
    presets.into_iter().map(|preset| format!("{:.3}", total(preset))).collect()
}

#[tokio::test]
async fn the_oracle_solves_every_template_and_every_milestone_is_verified_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let config = Config::default();
    let cancel = CancellationToken::new();
    let player = Player { policy: None, verifier: None, store: &store, screenshots: Screenshots::Off, generation: "oracle".into(), cancel };
    let mut wrong = Vec::new();
    for template in bundled() {
        for seed in 10_000..10_000 + SEEDS {
            let instance = template.instantiate(seed);
            let played = play(&instance, seed, &mut EpisodeEnvironment::Plain, &player, &config, &mut NoListener).await.unwrap();
            let count = instance.milestones().len() as u64;
            let milestones = (played.milestones.verified, played.milestones.reached, played.milestones.premature);
            let faults = faults(&played);
            let rewards = rewards(&played);
            if !faults.is_empty() || rewards != ["1.000", "1.000", "1.000", "3.000", "3.000", "2.000", "1.300"] {
                wrong.push(format!("{} {seed}: {faults:?} {rewards:?}", template.id));
            }
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

/// The episode of an oracle that is stopped half-way is not complete, but its actions follow its plan, and the plan has the best scores.
#[tokio::test]
async fn an_episode_that_is_cut_short_is_incomplete_and_its_plan_still_good() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let cancel = CancellationToken::new();
    let player = Player { policy: None, verifier: None, store: &store, screenshots: Screenshots::Off, generation: "oracle".into(), cancel };
    for template in bundled().iter().filter(|template| !template.revises) {
        let instance = template.instantiate(10_000);
        let mut config = Config::default();
        config.limits.max_steps = instance.oracle().first_plan().len() as u32 / 2;
        let played = play(&instance, 10_000, &mut EpisodeEnvironment::Plain, &player, &config, &mut NoListener).await.unwrap();
        assert_eq!(faults(&played), ["complete", "efficient"], "{}", template.id);
        assert_eq!(played.verdicts.completeness.as_ref().unwrap().verdict, [false], "{}", template.id);
        assert_eq!(rewards(&played)[..6], ["0.000", "0.000", "0.000", "2.000", "2.000", "1.000"], "{}", template.id);
        let kept = serde_json::to_string(&played.verdicts).unwrap();
        assert_eq!(serde_json::from_str::<Verdicts>(&kept).unwrap(), played.verdicts);
    }
}
