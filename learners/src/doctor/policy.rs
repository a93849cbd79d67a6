//! Diagnosis of one policy-gradient update: whether its rewards give a signal, and whether the trainer's policy agrees with the sampler's.

use serde::{Deserialize, Serialize};

use super::{Bounds, Finding, Level};
use crate::losses::{LossConfig, Sample, clip_fraction, mean_kl};
use crate::{Error, Result};

/// The bounds of every check; the defaults are the health ranges of axolotl's GRPO documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyDoctorConfig {
    /// The maximum difference between the rewards of a group that counts as no variance.
    pub variance_tolerance: f32,
    /// The fraction of groups without variance, which give no learning signal.
    pub groups_without_variance: Bounds,
    /// The number of groups with variance; there must be at least one.
    pub groups_with_variance: Bounds,
    /// The mean entropy of the trained tokens, in nats; below 0.01 the policy has collapsed.
    pub entropy: Bounds,
    /// The mean absolute difference between the trainer's and the sampler's log-probabilities, in nats.
    pub sampler_difference: Bounds,
    /// The smallest ratio of the trainer's to the sampler's probability of a token.
    pub least_ratio: Bounds,
    /// The fraction of the tokens that the loss clips.
    pub clip_fraction: Bounds,
    /// The mean KL divergence from the reference policy, in nats.
    pub kl: Bounds,
    /// The norm of the gradient before clipping.
    pub grad_norm: Bounds,
}

impl Default for PolicyDoctorConfig {
    fn default() -> Self {
        Self {
            variance_tolerance: 1e-6,
            groups_without_variance: Bounds::warn(None, Some(0.8)),
            groups_with_variance: Bounds { fail_below: Some(1.0), ..Bounds::default() },
            entropy: Bounds { fail_below: Some(0.01), ..Bounds::warn(Some(0.05), Some(0.5)) },
            sampler_difference: Bounds { fail_above: Some(1.0), ..Bounds::warn(None, Some(0.1)) },
            least_ratio: Bounds::warn(Some(0.1), None),
            clip_fraction: Bounds::warn(None, Some(0.1)),
            kl: Bounds { fail_above: Some(2.0), ..Bounds::warn(None, Some(0.5)) },
            grad_norm: Bounds::warn(Some(0.001), Some(1.0)),
        }
    }
}

/// The data of an update.
#[derive(Clone, Copy, Debug)]
pub struct PolicyUpdate<'a> {
    /// The samples.
    pub samples: &'a [Sample],
    /// The rewards of each group; a group holds the samples of one task.
    pub group_rewards: &'a [Vec<f32>],
    /// The sampler's log-probabilities `[sequence][token]`, which are compared with the samples' old ones. `None` if the samples' old
    /// log-probabilities are the sampler's; they are then compared with the new ones.
    pub sampler_logprobs: Option<&'a [Vec<f32>]>,
    /// The reference policy's log-probabilities `[sequence][token]`; if `None`, the old policy is the reference.
    pub reference_logprobs: Option<&'a [Vec<f32>]>,
    /// The entropies `[sequence][token]`, if they are known.
    pub entropies: Option<&'a [Vec<f32>]>,
    /// The norm of the gradient, if it is known.
    pub grad_norm: Option<f64>,
}

/// The result of the diagnosis of an update.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicyDiagnosis {
    /// The findings of all checks that could be made.
    pub findings: Vec<Finding>,
}

impl PolicyDiagnosis {
    /// Returns whether the update may be made, because no check failed.
    pub fn healthy(&self) -> bool {
        self.of(Level::Failure).next().is_none()
    }

    /// Returns the findings of one level.
    pub fn of(&self, level: Level) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.level == level)
    }

    /// Adds the finding of a check.
    fn check(&mut self, name: &'static str, bounds: Bounds, value: f64) {
        self.findings.push(Finding::new(name, bounds, value));
    }
}

/// Checks an update with the loss `loss` against the bounds (health ranges: axolotl's GRPO documentation).
///
/// # Errors
/// There are no samples, or the lengths of their lists or of the lists beside them do not match.
pub fn diagnose_update(config: &PolicyDoctorConfig, loss: &LossConfig, update: &PolicyUpdate<'_>) -> Result<PolicyDiagnosis> {
    let mut diagnosis = PolicyDiagnosis::default();
    let groups = update.group_rewards;
    let varied = groups.iter().filter(|rewards| spread(rewards) > config.variance_tolerance).count();
    diagnosis.check("groups_with_variance", config.groups_with_variance, varied as f64);
    if !groups.is_empty() {
        let share = (groups.len() - varied) as f64 / groups.len() as f64;
        diagnosis.check("groups_without_variance", config.groups_without_variance, share);
    }
    // This comes first, because it checks the samples.
    let clipped = clip_fraction(loss, update.samples)?;
    let old: Vec<Vec<f32>> = update.samples.iter().map(|s| s.old_logprobs.clone()).collect();
    if let Some(entropies) = update.entropies {
        diagnosis.check("entropy", config.entropy, mean(trained(update.samples, entropies, "entropies")?));
    }
    let differences = differences(update)?;
    diagnosis.check("sampler_difference", config.sampler_difference, mean(differences.iter().map(|d| d.abs())));
    if let Some(least) = differences.iter().copied().reduce(f64::min) {
        diagnosis.check("least_ratio", config.least_ratio, least.exp());
    }
    diagnosis.check("clip_fraction", config.clip_fraction, clipped);
    diagnosis.check("kl", config.kl, mean_kl(update.samples, update.reference_logprobs.unwrap_or(&old))?);
    if let Some(norm) = update.grad_norm {
        diagnosis.check("grad_norm", config.grad_norm, norm);
    }
    Ok(diagnosis)
}

/// Returns the difference between the largest and the smallest reward.
fn spread(rewards: &[f32]) -> f32 {
    let (least, most) = rewards.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), r| (a.min(*r), b.max(*r)));
    most - least
}

/// Returns the trainer's log-probability of each trained token minus the sampler's.
fn differences(update: &PolicyUpdate<'_>) -> Result<Vec<f64>> {
    let lists = |of: fn(&Sample) -> &Vec<f32>| update.samples.iter().map(|s| of(s).clone()).collect::<Vec<_>>();
    let (trainer, sampler) = match update.sampler_logprobs {
        Some(sampler) => (lists(|s| &s.old_logprobs), sampler.to_vec()),
        None => (lists(|s| &s.logprobs), lists(|s| &s.old_logprobs)),
    };
    let trainer = trained(update.samples, &trainer, "log-probabilities")?;
    let sampler = trained(update.samples, &sampler, "sampler log-probabilities")?;
    Ok(trainer.zip(sampler).map(|(trainer, sampler)| trainer - sampler).collect())
}

/// Returns the values of `lists`, which run parallel to the samples, at the trained tokens.
fn trained<'a>(samples: &'a [Sample], lists: &'a [Vec<f32>], name: &str) -> Result<impl Iterator<Item = f64> + 'a> {
    let odd = (0..samples.len()).find(|i| lists.get(*i).map(Vec::len) != Some(samples[*i].mask.len()));
    if let Some(index) = odd {
        let (found, wanted) = (lists.get(index).map_or(0, Vec::len), samples[index].mask.len());
        return Err(Error::Batch { index, problem: format!("has {found} {name} for {wanted} tokens") });
    }
    let values = samples.iter().zip(lists).flat_map(|(sample, list)| sample.mask.iter().zip(list));
    Ok(values.filter(|(trained, _)| **trained).map(|(_, value)| f64::from(*value)))
}

/// Returns the mean of the values; that of no values is `NaN`, which is a failure.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns two sequences, each of two trained tokens and one that is not trained, whose log-probabilities changed by these log-ratios.
    fn samples(moved: [f32; 4], advantage: f32) -> Vec<Sample> {
        let sample = |moved: &[f32]| Sample {
            mask: vec![true, false, true],
            logprobs: vec![moved[0] - 2.0, f32::NAN, moved[1] - 2.0],
            old_logprobs: vec![-2.0, f32::NAN, -2.0],
            advantages: vec![advantage; 3],
            weights: vec![1.0; 3],
        };
        moved.chunks(2).map(sample).collect()
    }

    /// A healthy update, which the tests change in one respect.
    struct Case {
        samples: Vec<Sample>,
        groups: Vec<Vec<f32>>,
        sampler: Option<Vec<Vec<f32>>>,
        reference: Option<Vec<Vec<f32>>>,
        entropies: Option<Vec<Vec<f32>>>,
        grad_norm: f64,
    }

    fn findings(change: impl FnOnce(&mut Case)) -> Result<PolicyDiagnosis> {
        let mut case = Case {
            samples: samples([0.0; 4], 1.0),
            groups: vec![vec![0.0, 1.0], vec![1.0, 1.0]],
            sampler: None,
            reference: None,
            entropies: Some(vec![vec![0.2, f32::NAN, 0.4]; 2]),
            grad_norm: 0.3,
        };
        change(&mut case);
        let update = PolicyUpdate {
            samples: &case.samples,
            group_rewards: &case.groups,
            sampler_logprobs: case.sampler.as_deref(),
            reference_logprobs: case.reference.as_deref(),
            entropies: case.entropies.as_deref(),
            grad_norm: Some(case.grad_norm),
        };
        diagnose_update(&PolicyDoctorConfig::default(), &LossConfig::default(), &update)
    }

    /// Checks the value and level of one finding, and that all other findings except those named in `besides` are fine.
    fn check(name: &str, value: f64, level: Level, besides: &[&str], change: impl FnOnce(&mut Case)) {
        let diagnosis = findings(change).unwrap();
        let found = diagnosis.findings.iter().find(|finding| finding.name == name).unwrap();
        assert!((found.value - value).abs() < 1e-4 || found.value.is_nan() && value.is_nan(), "{found}");
        assert_eq!(found.level, level, "{found}");
        for other in diagnosis.findings.iter().filter(|f| f.name != name && !besides.contains(&f.name)) {
            assert_eq!(other.level, Level::Ok, "{other}");
        }
        assert_eq!(diagnosis.healthy(), diagnosis.of(Level::Failure).count() == 0);
        assert!(level != Level::Failure || !diagnosis.healthy());
    }

    #[test]
    fn groups_must_differ() {
        let flat = vec![vec![1.0, 1.0]; 5];
        let mostly = [&flat[..], &[vec![0.0, 1.0]]].concat();
        check("groups_without_variance", 0.5, Level::Ok, &[], |_| {});
        check("groups_without_variance", 5.0 / 6.0, Level::Warning, &[], |c| c.groups = mostly);
        check("groups_with_variance", 0.0, Level::Failure, &["groups_without_variance"], |c| c.groups = flat);
        check("groups_with_variance", 0.0, Level::Failure, &[], |c| c.groups.clear());
    }

    #[test]
    fn entropies_lie_in_a_range() {
        for (entropy, level) in
            [(0.3, Level::Ok), (0.03, Level::Warning), (0.7, Level::Warning), (0.005, Level::Failure), (f32::NAN, Level::Failure)]
        {
            check("entropy", f64::from(entropy), level, &[], |c| c.entropies = Some(vec![vec![entropy, 9.0, entropy]; 2]));
        }
        assert!(findings(|c| c.entropies = None).unwrap().findings.iter().all(|finding| finding.name != "entropy"));
    }

    #[test]
    fn the_trainer_must_agree_with_the_sampler() {
        let moved = |a: f32| move |c: &mut Case| c.samples = samples([a, -a, a, -a], 1.0);
        check("sampler_difference", 0.05, Level::Ok, &[], moved(0.05));
        check("sampler_difference", 0.2, Level::Warning, &[], moved(0.2));
        check("sampler_difference", 1.2, Level::Failure, &["clip_fraction", "kl"], moved(1.2));
        check("least_ratio", (-3.0f64).exp(), Level::Warning, &["sampler_difference", "kl"], |c| {
            c.samples = samples([-3.0, 0.0, 0.0, 0.0], 1.0)
        });
        // If the sampler's log-probabilities are given, the new ones do not matter.
        let sampler = vec![vec![-2.3, 0.0, -1.9]; 2];
        check("sampler_difference", 0.2, Level::Warning, &[], |c| c.sampler = Some(sampler));
        let problem = findings(|c| c.sampler = Some(vec![])).unwrap_err().to_string();
        assert!(problem.contains("has 0 sampler log-probabilities for 3 tokens"), "{problem}");
    }

    #[test]
    fn steps_must_be_small() {
        check("clip_fraction", 0.25, Level::Warning, &[], |c| c.samples = samples([0.26, 0.0, 0.0, 0.0], 1.0));
        // The k3 estimate for a reference log-probability that is higher by d is e^d - d - 1.
        for (d, level) in [(0.5, Level::Ok), (1.0, Level::Warning), (1.6, Level::Failure)] {
            check("kl", f64::from(d).exp() - f64::from(d) - 1.0, level, &[], |c| c.reference = Some(vec![vec![d - 2.0; 3]; 2]));
        }
        for (norm, level) in [(0.3, Level::Ok), (1e-4, Level::Warning), (3.0, Level::Warning), (f64::INFINITY, Level::Failure)] {
            let diagnosis = findings(|c| c.grad_norm = norm).unwrap();
            assert_eq!(diagnosis.findings.last().map(|f| (f.name, f.level)), Some(("grad_norm", level)));
        }
    }

    #[test]
    fn bounds_have_strict_keys() {
        let config: PolicyDoctorConfig = serde_json::from_str(r#"{"kl": {"max": 1.0}}"#).unwrap();
        assert_eq!(config.kl, Bounds::warn(None, Some(1.0)));
        assert!(serde_json::from_str::<PolicyDoctorConfig>(r#"{"kl": {"most": 1.0}}"#).is_err());
    }
}
