//! Compares losses, corrections and advantages with TRL and verl (`golden/losses.py`), and derivatives with finite differences.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use milepost_learners::advantages::{AdvantageConfig, Group, advantages};
use milepost_learners::losses::{
    Action, ActorLoss, CorrectionConfig, Loss, LossConfig, MiraLossConfig, Normalisation, Objective, Sample, clip_fraction, correction,
    kl_loss, mean_kl, mira_loss, policy_loss,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    batch: Batch,
    losses: Vec<LossCase>,
    corrections: Vec<CorrectionCase>,
    advantages: Vec<AdvantageCase>,
}

#[derive(Deserialize)]
struct Batch {
    mask: Vec<Vec<u8>>,
    logprobs: Vec<Vec<f32>>,
    old_logprobs: Vec<Vec<f32>>,
    sampler_logprobs: Vec<Vec<f32>>,
    reference_logprobs: Vec<Vec<f32>>,
    advantages: Vec<f32>,
    token_advantages: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct LossCase {
    name: String,
    source: String,
    config: LossConfig,
    advantages: String,
    correction: Option<CorrectionConfig>,
    loss: f64,
    gradient: Vec<Vec<f64>>,
    clip_fraction: Option<f64>,
    kl: Option<f64>,
}

#[derive(Deserialize)]
struct CorrectionCase {
    source: String,
    config: CorrectionConfig,
    weights: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct AdvantageCase {
    source: String,
    config: AdvantageConfig,
    groups: Vec<GoldenGroup>,
    advantages: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct GoldenGroup {
    rewards: Vec<f64>,
    tokens: Vec<usize>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/losses.json")).unwrap()
}

impl Batch {
    fn mask(&self, i: usize) -> Vec<bool> {
        self.mask[i].iter().map(|m| *m == 1).collect()
    }

    fn weights(&self, config: &CorrectionConfig, i: usize) -> Vec<f32> {
        correction(config, &self.mask(i), &self.old_logprobs[i], &self.sampler_logprobs[i]).unwrap()
    }

    fn samples(&self, case: &LossCase) -> Vec<Sample> {
        let sample = |i: usize| {
            let mask = self.mask(i);
            Sample {
                logprobs: self.logprobs[i].clone(),
                old_logprobs: self.old_logprobs[i].clone(),
                advantages: match &case.advantages[..] {
                    "token_advantages" => self.token_advantages[i].clone(),
                    _ => vec![self.advantages[i]; mask.len()],
                },
                weights: case.correction.as_ref().map_or(vec![1.0; mask.len()], |config| self.weights(config, i)),
                mask,
            }
        };
        (0..self.mask.len()).map(sample).collect()
    }
}

/// Computes the sum of the policy loss and the KL loss.
fn total_loss(config: &LossConfig, samples: &[Sample], reference: &[Vec<f32>]) -> Loss {
    policy_loss(config, samples).unwrap().plus(&kl_loss(config, samples, reference).unwrap()).unwrap()
}

fn check_close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs() + 1e-7, "{what} is {got}, not {want}");
}

fn check_all_close<'a>(what: &str, got: impl IntoIterator<Item = f64>, want: impl IntoIterator<Item = &'a f64>) {
    let (got, want): (Vec<f64>, Vec<&f64>) = (got.into_iter().collect(), want.into_iter().collect());
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.into_iter().zip(want).enumerate() {
        check_close(&format!("{what}, number {i},"), g, *w, 1e-5);
    }
}

#[test]
fn losses_and_gradients_are_those_of_trl_and_verl() {
    let golden = golden();
    assert!(golden.losses.len() >= 40);
    for case in &golden.losses {
        let name = format!("{}'s {} with {}", case.source, case.name, case.advantages);
        let (samples, reference) = (golden.batch.samples(case), &golden.batch.reference_logprobs);
        let loss = total_loss(&case.config, &samples, reference);
        check_close(&name, loss.value, case.loss, 1e-5);
        check_all_close(
            &format!("the gradient of {name}"),
            loss.derivatives.iter().flatten().map(|d| f64::from(*d)),
            case.gradient.iter().flatten(),
        );
        if let Some(want) = case.clip_fraction {
            check_close(&format!("the clip fraction of {name}"), clip_fraction(&case.config, &samples).unwrap(), want, 1e-6);
        }
        if let Some(want) = case.kl {
            check_close(&format!("the KL of {name}"), mean_kl(&samples, reference).unwrap(), want, 1e-5);
        }
    }
}

#[test]
fn corrections_are_those_of_trl() {
    let golden = golden();
    for case in &golden.corrections {
        for (i, want) in case.weights.iter().enumerate() {
            let got = golden.batch.weights(&case.config, i);
            check_all_close(&format!("{}, sequence {i}", case.source), got.into_iter().map(f64::from), want);
        }
    }
}

#[test]
fn advantages_are_those_of_trl_and_verl() {
    for case in golden().advantages {
        let groups: Vec<Group> = case.groups.into_iter().map(|g| Group { rewards: g.rewards, tokens: g.tokens }).collect();
        let got = advantages(&case.config, &groups).unwrap();
        check_all_close(&case.source, got.into_iter().flatten(), case.advantages.iter().flatten());
    }
}

/// Builds a batch whose log-ratios lie away from the points where the losses are not differentiable: ln 0.8, ln 1.28, ln 3 and ln 5.
fn random_samples(seed: u64) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(seed);
    let log_ratios = [-0.7, -0.4, -0.1, 0.1, 0.5, 0.8, 1.3, 1.9];
    let mut samples = Vec::new();
    for (i, base) in log_ratios.into_iter().enumerate() {
        let n = 3 + i;
        let old: Vec<f32> = (0..n).map(|_| rng.random_range(-4.0..-2.0)).collect();
        let advantage: f32 = rng.random_range(-2.0..2.0);
        samples.push(Sample {
            mask: (0..n).map(|t| t != i / 2).collect(),
            logprobs: old.iter().map(|l| l + base + rng.random_range(-0.02..0.02)).collect(),
            advantages: (0..n).map(|_| advantage + rng.random_range(-0.5..0.5)).collect(),
            weights: (0..n).map(|_| rng.random_range(0.0..2.0)).collect(),
            old_logprobs: old,
        });
    }
    samples
}

/// Compares every derivative with the finite difference of `loss` when `shift` moves that token's log-probability.
fn check_derivatives<T: Clone>(name: &str, items: &[T], loss: impl Fn(&[T]) -> Loss, shift: impl Fn(&mut T, usize, f32) -> f64) {
    let mut moving = 0;
    for (i, derivatives) in loss(items).derivatives.iter().enumerate() {
        for (t, derivative) in derivatives.iter().enumerate() {
            let at = |by: f32| {
                let mut moved = items.to_vec();
                let x = shift(&mut moved[i], t, by);
                (x, loss(&moved).value)
            };
            let ((x0, y0), (x1, y1)) = (at(-1e-3), at(1e-3));
            let want = (y1 - y0) / (x1 - x0);
            let got = f64::from(*derivative);
            assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{name}: d[{i}][{t}] is {got}, differences say {want}");
            moving += usize::from(got != 0.0);
        }
    }
    assert!(moving > 10, "{name}: only {moving} derivatives are not 0");
}

/// Moves a log-probability by about `by`, and returns its new value, because the step is rounded to `f32`.
fn nudge(list: &mut [f32], t: usize, by: f32) -> f64 {
    list[t] += by;
    f64::from(list[t])
}

fn configs(objective: Objective) -> Vec<LossConfig> {
    let mut configs = Vec::new();
    for normalisation in [Normalisation::Grpo, Normalisation::Dapo, Normalisation::DrGrpo] {
        for dual_clip in [None, Some(3.0)] {
            configs.push(LossConfig { objective, normalisation, dual_clip, max_tokens: 12, kl_weight: 0.3, ..Default::default() });
        }
    }
    configs
}

#[test]
fn derivatives_of_clipped_losses_are_their_differences() {
    for objective in [Objective::Clipped, Objective::Gspo] {
        for (seed, config) in configs(objective).into_iter().enumerate() {
            let samples = random_samples(seed as u64);
            let reference: Vec<Vec<f32>> = samples.iter().map(|s| s.old_logprobs.clone()).collect();
            let name = format!("{objective:?} with {:?} and {:?}", config.normalisation, config.dual_clip);
            check_derivatives(&name, &samples, |s| total_loss(&config, s, &reference), |s, t, by| nudge(&mut s.logprobs, t, by));
        }
    }
}

/// CISPO has no gradient through its ratio, so old and new log-probabilities are moved together to keep the ratio fixed.
#[test]
fn derivatives_of_cispo_are_its_differences_at_a_fixed_ratio() {
    for (seed, config) in configs(Objective::Cispo).into_iter().enumerate() {
        let shift = |s: &mut Sample, t: usize, by: f32| {
            nudge(&mut s.old_logprobs, t, by);
            nudge(&mut s.logprobs, t, by)
        };
        // The log-probabilities lie on a grid that includes the step, so that the ratio does not change by a bit.
        let grid = |x: &f32| (x * 4096.0).round() / 4096.0;
        let mut samples = random_samples(seed as u64);
        for s in &mut samples {
            (s.logprobs, s.old_logprobs) = (s.logprobs.iter().map(grid).collect(), s.old_logprobs.iter().map(grid).collect());
        }
        let name = format!("cispo with {:?}", config.normalisation);
        check_derivatives(&name, &samples, |s| policy_loss(&config, s).unwrap(), |s, t, by| shift(s, t, by.signum() / 1024.0));
    }
}

#[test]
fn derivatives_of_the_kl_and_of_mira_are_their_differences() {
    let samples = random_samples(7);
    let config = LossConfig { kl_weight: 0.3, ..Default::default() };
    let reference: Vec<Vec<f32>> = samples.iter().map(|s| s.old_logprobs.clone()).collect();
    check_derivatives("k3", &samples, |s| kl_loss(&config, s, &reference).unwrap(), |s, t, by| nudge(&mut s.logprobs, t, by));
    let action = |s: Sample| Action { mask: s.mask, logprobs: s.logprobs, reference_logprobs: s.old_logprobs, advantage: 0.4 };
    let actions: Vec<Action> = samples.into_iter().map(action).collect();
    for loss in [ActorLoss::SquaredLogRatio, ActorLoss::Kl] {
        let config = MiraLossConfig { beta: 0.5, loss, ..Default::default() };
        check_derivatives(&format!("{loss:?}"), &actions, |a| mira_loss(&config, a).unwrap(), |a, t, by| nudge(&mut a.logprobs, t, by));
    }
}
