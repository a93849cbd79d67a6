//! The checks before the first step of an update.

use std::collections::BTreeMap;

use super::trained_call::TrainedCall;
use crate::advantages::all_equal;
use crate::doctor::Level;
use crate::doctor::policy::{PolicyUpdate, diagnose_update};
use crate::recipes::policy::config::{CreditKind, PolicyConfig};
use crate::recipes::policy::credit::CreditAssignment;
use crate::recipes::policy::report::Report;
use crate::recipes::policy::rollout::Rollout;
use crate::{Error, Result, Scored, Sequence, Trainer};

/// Scores every call under the policy before the first step, and refuses an unhealthy update: a trainer whose model is not the one that
/// sampled, a policy that has collapsed, or groups without a signal.
pub(super) fn score_and_diagnose(
    trainer: &mut Trainer,
    calls: &mut [TrainedCall],
    groups: &[Vec<f32>],
    config: &PolicyConfig,
    report: &mut Report,
) -> Result<()> {
    let sequences: Vec<Sequence> = calls.iter().map(|call| call.call.sequence()).collect();
    let scores = trainer.score(&sequences)?;
    let of = |value: fn(&Scored) -> f32| scores.iter().map(|list| list.iter().map(value).collect()).collect::<Vec<Vec<f32>>>();
    let (logprobs, entropies) = (of(|score| score.logprob), of(|score| score.entropy));
    for (call, logprobs) in calls.iter_mut().zip(logprobs) {
        call.reference = logprobs;
    }
    let samples = calls.iter().map(|call| call.sample(call.reference.clone(), config)).collect::<Result<Vec<_>>>()?;
    let trained = |of: &dyn Fn(usize, usize) -> f64| {
        let places = samples.iter().enumerate().flat_map(|(i, s)| (0..s.mask.len()).filter(|t| s.mask[*t]).map(move |t| (i, t)));
        places.map(|(i, t)| of(i, t)).collect::<Vec<f64>>()
    };
    let differences = trained(&|i, t| f64::from((samples[i].logprobs[t] - samples[i].old_logprobs[t]).abs()));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    report.sampler_difference = mean(&differences);
    report.sampler_difference_max = differences.iter().copied().fold(0.0, f64::max);
    report.entropy = mean(&trained(&|i, t| f64::from(entropies[i][t])));
    let update = PolicyUpdate {
        samples: &samples,
        group_rewards: groups,
        sampler_logprobs: None,
        reference_logprobs: None,
        entropies: Some(&entropies),
        grad_norm: None,
    };
    let diagnosis = diagnose_update(&config.doctor, &config.loss, &update)?;
    report.doctor = diagnosis.findings.iter().map(ToString::to_string).collect();
    if diagnosis.healthy() {
        return Ok(());
    }
    let failures: Vec<String> = diagnosis.of(Level::Failure).map(ToString::to_string).collect();
    let other_model = diagnosis.of(Level::Failure).any(|finding| finding.name == "sampler_difference");
    let hint = if other_model { "; another generation made the episodes, or the engine computes in other numbers" } else { "" };
    Err(Error::Unhealthy(format!("{}{hint}", failures.join("; "))))
}

/// Returns the rewards of every group for the doctor, which looks for groups with variance.
///
/// MiRA and PPO compare every episode with critics, and REINFORCE++ compares all episodes with each other, so that all episodes are one
/// group. If steps are compared, a group of equal rewards may still differ in its steps, and its rewards are replaced by the steps'
/// advantages.
pub(super) fn group_rewards(rollouts: &[Rollout], credit: &CreditAssignment, config: &PolicyConfig) -> Vec<Vec<f32>> {
    let one_group = match config.credit {
        CreditKind::Mira | CreditKind::Ppo => true,
        CreditKind::Episode => !config.advantage.estimator.within_groups(),
        CreditKind::Step | CreditKind::Tree | CreditKind::Success => false,
    };
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rollout) in rollouts.iter().enumerate().filter(|(_, rollout)| !rollout.calls.is_empty()) {
        groups.entry(if one_group { "all" } else { &rollout.group }).or_default().push(index);
    }
    let rewards = |members: Vec<usize>| -> Vec<f32> {
        let totals: Vec<f64> = members.iter().map(|i| rollouts[*i].total()).collect();
        let steps: Vec<f64> = members.iter().flat_map(|i| credit.advantages[*i].iter().flatten().copied()).collect();
        let compared = if config.credit == CreditKind::Step && all_equal(&totals) && !steps.is_empty() { steps } else { totals };
        compared.into_iter().map(|value| value as f32).collect()
    };
    groups.into_values().map(rewards).collect()
}
