//! Rewards as data: an episode and its judges' verdicts become named reward terms. Nothing here calls a model or reads a clock, so that a
//! reward can be recomputed from records.

mod config;
mod milestones;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use milepost_runtime::{Episode, JudgeRef, PlanScores, RewardTerm, Verdicts};

pub use config::{Match, Preset, RewardConfig, Shaping, StepAggregation};
pub use milestones::progress;
pub use rules::{ended_externally, expert_match};

/// The names of the terms.
pub mod name {
    #![allow(missing_docs, reason = "each constant is named after its key in the configuration")]
    pub const OUTCOME: &str = "outcome";
    pub const FORMAT: &str = "format";
    pub const ADHERENCE: &str = "adherence";
    pub const END_TO_END: &str = "end_to_end";
    pub const PLAN_CORRECTNESS: &str = "plan_correctness";
    pub const PLAN_EXECUTABILITY: &str = "plan_executability";
    pub const PLAN_STANDARDIZATION: &str = "plan_standardization";
    pub const PLAN_QUALITY: &str = "plan_quality";
    pub const COMPLETENESS: &str = "completeness";
    pub const REPETITION: &str = "repetition";
    pub const ERROR: &str = "error";
    pub const MALFORMED: &str = "malformed";
    pub const FLOOR: &str = "floor";
    pub const EXPERT_MATCH: &str = "expert_match";
    pub const POTENTIAL: &str = "potential";
    pub const CREDIT: &str = "credit";
}

/// An episode's reward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reward {
    /// The terms of the reward; terms of weight 0 are left out.
    pub terms: Vec<RewardTerm>,
    /// The names of terms that are configured but unknown, because a judge failed, the outcome was not verified, or the environment failed.
    pub missing: Vec<&'static str>,
}

impl Reward {
    /// Returns the sum of the terms; `None` if a term is missing, so that a judge's failure never becomes a low reward.
    pub fn total(&self) -> Option<f64> {
        self.missing.is_empty().then(|| total(&self.terms))
    }

    fn add(&mut self, name: &str, step: Option<usize>, [raw, normalised, weight]: [f64; 3], judge: Option<&JudgeRef>) {
        let step = step.map(|step| step as u32);
        self.terms.push(RewardTerm { name: name.into(), step, raw, normalised, weight, judge: judge.cloned() });
    }

    /// Adds a term for the whole episode unless its weight is 0; without a value the term is recorded as missing.
    fn add_episode_term(&mut self, name: &'static str, weight: f64, value: Option<([f64; 2], Option<&JudgeRef>)>) {
        match value {
            _ if weight == 0.0 => {}
            Some(([raw, normalised], judge)) => self.add(name, None, [raw, normalised, weight], judge),
            None => self.missing.push(name),
        }
    }

    /// Adds terms for single steps unless the weight is 0; without any value the term is recorded as missing.
    fn add_step_terms(
        &mut self,
        name: &'static str,
        weight: f64,
        aggregation: StepAggregation,
        values: &[(usize, [f64; 2], Option<&JudgeRef>)],
    ) {
        if weight == 0.0 {
            return;
        }
        let (values, weight) = match aggregation {
            StepAggregation::Mean => (values, weight / values.len().max(1) as f64),
            StepAggregation::Last => (&values[values.len().saturating_sub(1)..], weight),
            StepAggregation::Sum => (values, weight),
        };
        if values.is_empty() {
            self.missing.push(name);
        }
        for (step, [raw, normalised], judge) in values {
            self.add(name, Some(*step), [*raw, *normalised, weight], *judge);
        }
    }
}

/// Returns the sum of the terms.
pub fn total(terms: &[RewardTerm]) -> f64 {
    terms.iter().map(RewardTerm::value).sum()
}

/// Returns the sum of the terms of each name, for logs that show the outcome apart from its shaping.
pub fn by_name(terms: &[RewardTerm]) -> BTreeMap<&str, f64> {
    let mut sums = BTreeMap::new();
    for term in terms {
        *sums.entry(term.name.as_str()).or_default() += term.value();
    }
    sums
}

/// Returns the reward of each of `steps` steps, and the reward of the whole episode. The latter belongs to the episode's last call, which
/// may come after the last step (an answer, or output that could not be parsed).
pub fn per_step(terms: &[RewardTerm], steps: usize) -> (Vec<f64>, f64) {
    let (mut rewards, mut whole) = (vec![0.0; steps], 0.0);
    for term in terms {
        let step = term.step.and_then(|step| rewards.get_mut(step as usize));
        *step.unwrap_or(&mut whole) += term.value();
    }
    (rewards, whole)
}

/// Computes the reward of an episode as a pure function of its record, the judges' verdicts, and the configuration.
///
/// If the episode ended with output that cannot be parsed and `malformed` is set, that is its whole reward (RLTR, 2508.19598, algorithm 1:
/// the -1 replaces the other terms, it is not added). If `malformed` is not set and the output failed to parse before there was a plan or
/// an action, the scores that judges would have given are 0, the lowest, rather than missing: the fault is the policy's, not a judge's. An
/// episode that the environment ended has no reward.
pub fn compose(episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) -> Reward {
    let mut reward = Reward::default();
    if rules::ended_externally(episode.stop.as_ref()) {
        reward.missing.push(name::OUTCOME);
        return reward;
    }
    let malformed = rules::malformed(episode.stop.as_ref());
    if let (true, Some(penalty)) = (malformed, config.malformed) {
        reward.add(name::MALFORMED, None, [penalty, penalty, 1.0], None);
        return reward;
    }
    let format = f64::from(!malformed);
    reward.add_episode_term(name::FORMAT, config.format, Some(([format; 2], None)));
    reward.add_episode_term(name::OUTCOME, config.outcome, episode.success.map(|solved| ([f64::from(solved); 2], None)));
    add_judged_terms(&mut reward, episode, verdicts, config);
    add_terms_of_steps(&mut reward, episode, verdicts, config);
    add_milestone_terms(&mut reward, episode, verdicts, config);
    if let Some(floor) = config.floor.filter(|floor| total(&reward.terms) < *floor) {
        let sum = total(&reward.terms);
        reward.add(name::FLOOR, None, [sum, floor - sum, 1.0], None);
    }
    reward
}

/// Adds the terms from judges' verdicts on the whole episode (PilotRL, 2508.00344, section 2.2; RLTR, 2508.19598, section 3.2).
fn add_judged_terms(reward: &mut Reward, episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) {
    let complete = verdicts.completeness.as_ref().filter(|judged| !judged.verdict.is_empty()).map(|judged| {
        let share = judged.verdict.iter().filter(|complete| **complete).count() as f64 / judged.verdict.len() as f64;
        ([share; 2], Some(&judged.by))
    });
    reward.add_episode_term(name::COMPLETENESS, config.completeness, complete);
    let finished = verdicts.end_to_end.as_ref().map(|judged| ([judged.verdict, judged.verdict / 2.0], Some(&judged.by)));
    reward.add_episode_term(name::END_TO_END, config.end_to_end, finished);
    let Some(plan) = &verdicts.plan_quality else {
        let unwritten = rules::malformed(episode.stop.as_ref()) && episode.plans.is_empty();
        return reward.add_episode_term(name::PLAN_QUALITY, config.plan_quality, unwritten.then_some(([0.0; 2], None)));
    };
    let PlanScores { correctness, executability, standardization } = plan.verdict;
    let scores =
        [(name::PLAN_CORRECTNESS, correctness), (name::PLAN_EXECUTABILITY, executability), (name::PLAN_STANDARDIZATION, standardization)];
    for (name, score) in scores {
        reward.add_episode_term(name, config.plan_quality / 3.0, Some(([score, (score - 1.0) / 4.0], Some(&plan.by))));
    }
}

/// Adds the rewards and penalties of single steps.
fn add_terms_of_steps(reward: &mut Reward, episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) {
    let adherence: Vec<_> = verdicts
        .adherence
        .iter()
        .enumerate()
        .filter_map(|(step, judged)| judged.as_ref().map(|judged| (step, [judged.verdict, judged.verdict / 2.0], Some(&judged.by))))
        .collect();
    if rules::malformed(episode.stop.as_ref()) && episode.steps.is_empty() {
        reward.add_episode_term(name::ADHERENCE, config.adherence, Some(([0.0; 2], None)));
    } else {
        reward.add_step_terms(name::ADHERENCE, config.adherence, config.adherence_over, &adherence);
    }
    let matches: Vec<_> = verdicts
        .experts
        .iter()
        .zip(&episode.steps)
        .enumerate()
        .filter_map(|(step, (experts, taken))| {
            let same = f64::from(expert_match(&taken.action, experts.as_ref()?, config.matching));
            Some((step, [same; 2], None))
        })
        .collect();
    reward.add_step_terms(name::EXPERT_MATCH, config.expert_match, StepAggregation::Mean, &matches);
    let penalties = [
        (name::REPETITION, config.repetition, rules::repetitions(&episode.steps)),
        (name::ERROR, config.error, rules::errors(&episode.steps)),
    ];
    for (name, weight, steps) in penalties {
        if weight > 0.0 {
            steps.into_iter().for_each(|step| reward.add(name, Some(step), [-1.0, -1.0, weight], None));
        }
    }
}

/// Adds the rewards for milestones that were reached.
fn add_milestone_terms(reward: &mut Reward, episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) {
    if config.potential > 0.0 {
        match milestones::potential(episode, verdicts) {
            Some(potential) => {
                for (step, difference) in milestones::differences(&potential, config.shaping).into_iter().enumerate() {
                    reward.add(name::POTENTIAL, Some(step), [difference, difference, config.potential], None);
                }
            }
            None => reward.missing.push(name::POTENTIAL),
        }
    }
    if config.credit > 0.0 && episode.success != Some(true) {
        let share = episode.success.and(milestones::rewarded(verdicts, episode)).map(milestones::share);
        reward.add_episode_term(name::CREDIT, config.credit, share.map(|share| ([share, share.min(config.credit_cap)], None)));
    }
}
