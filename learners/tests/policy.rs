//! Policy updates on the policy's own samples: with each loss and each kind of credit, a tiny model learns which of four tokens is
//! rewarded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use milepost_learners::adapter::LoraConfig;
use milepost_learners::model::Storage;
use milepost_learners::policy::{ActorKind, CreditKind, ModelCall, PolicyConfig, Rollout, run};
use milepost_learners::{Error, Model, ModelConfig, Sequence, Trainer};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The tokens that the grammar allows.
const CHOICES: [u32; 4] = [8, 9, 10, 11];
/// The token that is rewarded.
const REWARDED: u32 = 10;
/// The number of episodes per group.
const GROUP: usize = 16;
/// The random embeddings have small norms: at a temperature of 1 no policy of this model could become certain.
const TEMPERATURE: f32 = 0.2;

fn trainer(config: &PolicyConfig) -> Trainer {
    let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, head_dim: 16, ..ModelConfig::seed(32, 0, 1) };
    let lora = LoraConfig { rank: 4, ..Default::default() };
    let mut trainer = Trainer::lora(Model::random(shape, 3).unwrap(), lora, Storage::F32, 1, config.optimizer()).unwrap();
    trainer.set_precision(config.precision);
    trainer
}

fn prompt(task: u32) -> Vec<u32> {
    vec![2, 12 + task, 3, 4]
}

fn mask() -> Option<Arc<[u32]>> {
    Some(Arc::from([CHOICES.iter().fold(0u32, |mask, token| mask | 1 << token)]))
}

/// Computes the log-probabilities of the four choices.
fn choice_logprobs(trainer: &mut Trainer, task: u32) -> Vec<f32> {
    let sequence = |token: &u32| Sequence {
        tokens: [&prompt(task)[..], &[*token]].concat(),
        weights: vec![0.0, 0.0, 0.0, 0.0, 1.0],
        masks: vec![None, None, None, None, mask()],
        temperature: TEMPERATURE,
        ..Default::default()
    };
    let scores = trainer.logprobs(&CHOICES.iter().map(sequence).collect::<Vec<_>>()).unwrap();
    scores.iter().map(|list| list[4]).collect()
}

/// Samples one group of rollouts for every task from the policy.
fn sample(trainer: &mut Trainer, rng: &mut StdRng) -> Vec<Rollout> {
    let mut rollouts = Vec::new();
    for task in 0..4 {
        let logprobs = choice_logprobs(trainer, task);
        for _ in 0..GROUP {
            let draw: f32 = rng.random();
            let at = (0..3).find(|at| draw < logprobs[..=*at].iter().map(|p| p.exp()).sum()).unwrap_or(3);
            let success = CHOICES[at] == REWARDED;
            let call = ModelCall {
                prompt: prompt(task),
                completion: vec![CHOICES[at]],
                trained: vec![true],
                masks: vec![mask()],
                old_logprobs: vec![logprobs[at]],
                temperature: TEMPERATURE,
                anchor: format!("task {task}"),
                value: 0.3,
                ..Default::default()
            };
            let reward = f64::from(u8::from(success));
            rollouts.push(Rollout { group: task.to_string(), success, reward, calls: vec![call], ..Default::default() });
        }
    }
    rollouts
}

/// Returns the mean probability of the rewarded token after this number of updates.
fn learned(config: &PolicyConfig, updates: usize) -> f32 {
    let directory = tempfile::tempdir().unwrap();
    let (mut trainer, mut rng) = (trainer(config), StdRng::seed_from_u64(7));
    for _ in 0..updates {
        let rollouts = sample(&mut trainer, &mut rng);
        match run(&mut trainer, &rollouts, config, directory.path()) {
            Ok(report) => {
                assert!(report.sampler_difference < 1e-4, "{report:?}");
                assert!(directory.path().join("metrics.svg").is_file());
            }
            Err(Error::Unhealthy(reason)) => {
                assert!(reason.contains("earned the same") || reason.contains("groups_with_variance"), "{reason}")
            }
            Err(error) => panic!("{error}"),
        }
    }
    (0..4).map(|task| choice_logprobs(&mut trainer, task)[2].exp()).sum::<f32>() / 4.0
}

#[test]
fn every_loss_and_credit_learns_the_rewarded_token() {
    // A policy that becomes certain within one run moves far.
    let base = PolicyConfig { lr: 0.003, tokens_per_batch: 200, most_moved: 1.0, ..Default::default() };
    let before = learned(&base, 0);
    assert!(before < 0.5, "the untrained policy must not know: {before}");
    for (credit, actor) in [
        (CreditKind::Episode, ActorKind::Ratio),
        (CreditKind::Step, ActorKind::Ratio),
        (CreditKind::Mira, ActorKind::Ratio),
        (CreditKind::Ppo, ActorKind::Ratio),
        (CreditKind::Tree, ActorKind::Ratio),
        (CreditKind::Mira, ActorKind::Squares),
        (CreditKind::Success, ActorKind::Likelihood),
    ] {
        let after = learned(&PolicyConfig { credit, actor, ..base.clone() }, 30);
        assert!(after > 0.8, "{credit:?} with {actor:?}: from {before} to {after}");
    }
}

#[test]
fn an_update_without_a_signal_or_with_another_models_samples_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = PolicyConfig::default();
    let mut trainer = trainer(&config);
    let mut rollouts = sample(&mut trainer, &mut StdRng::seed_from_u64(1));
    for rollout in &mut rollouts {
        rollout.calls[0].old_logprobs[0] -= 0.5;
    }
    let error = run(&mut trainer, &rollouts, &config, directory.path()).unwrap_err().to_string();
    assert!(error.contains("sampler_difference") && error.contains("another generation"), "{error}");
    for rollout in &mut rollouts {
        rollout.reward = 1.0;
    }
    let error = run(&mut trainer, &rollouts, &config, directory.path()).unwrap_err().to_string();
    assert!(error.contains("4 of 4 groups earned the same"), "{error}");
    assert_eq!(trainer.steps(), 0);
}

#[test]
fn an_update_that_moves_the_policy_too_far_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let config = PolicyConfig { lr: 0.5, epochs: 20, ..Default::default() };
    let mut trainer = trainer(&config);
    let rollouts = sample(&mut trainer, &mut StdRng::seed_from_u64(1));
    let error = run(&mut trainer, &rollouts, &config, directory.path()).unwrap_err().to_string();
    assert!(error.contains("ran away"), "{error}");
}

#[test]
fn calls_that_the_policy_is_certain_about_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let config = PolicyConfig { least_doubt: 0.05, ..Default::default() };
    let mut trainer = trainer(&config);
    let mut rollouts = sample(&mut trainer, &mut StdRng::seed_from_u64(1));
    let sure = ModelCall { old_logprobs: vec![-0.01], ..rollouts[0].calls[0].clone() };
    assert!((sure.doubt() - 0.00995).abs() < 1e-5);
    rollouts.iter_mut().for_each(|rollout| rollout.calls.push(sure.clone()));
    let report = run(&mut trainer, &rollouts, &config, directory.path()).unwrap();
    let groups = report.groups - report.flat_groups;
    assert_eq!((report.calls, report.sure), (groups * GROUP, groups * GROUP), "{report:?}");
    for rollout in &mut rollouts {
        rollout.calls.remove(0);
    }
    let error = run(&mut trainer, &rollouts, &config, directory.path()).unwrap_err().to_string();
    assert!(error.contains("no call is left") && error.contains("least_doubt"), "{error}");
}
