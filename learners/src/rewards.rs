//! Rewards as data: an episode and what judges said of it become named terms. Nothing here asks anybody or looks at a clock, so that a
//! reward can be made again from records.

mod config;
mod milestones;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use milepost_runtime::{Episode, JudgeRef, PlanScores, RewardTerm, Verdicts};

pub use config::{Match, Over, Preset, RewardConfig, Shaping};
pub use milestones::progress;
pub use rules::{disturbed, expert_match};

/// The names of the terms.
pub mod name {
    #![allow(missing_docs)] // Each is named after its key in the configuration.
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
    /// Its terms; those of weight 0 are left out.
    pub terms: Vec<RewardTerm>,
    /// Names of what was asked for but is not known: a judge failed, nobody verified the outcome, or the environment broke down.
    pub missing: Vec<&'static str>,
}

impl Reward {
    /// The sum of its terms; `None` where something is missing, so that a failure of a judge never becomes a low reward.
    pub fn total(&self) -> Option<f64> {
        self.missing.is_empty().then(|| total(&self.terms))
    }

    fn add(&mut self, name: &str, step: Option<usize>, [raw, normalised, weight]: [f64; 3], judge: Option<&JudgeRef>) {
        let step = step.map(|step| step as u32);
        self.terms.push(RewardTerm { name: name.into(), step, raw, normalised, weight, judge: judge.cloned() });
    }

    /// Adds a value of the whole episode where it is wanted; what is wanted and not there is missing.
    fn whole(&mut self, name: &'static str, weight: f64, value: Option<([f64; 2], Option<&JudgeRef>)>) {
        match value {
            _ if weight == 0.0 => {}
            Some(([raw, normalised], judge)) => self.add(name, None, [raw, normalised, weight], judge),
            None => self.missing.push(name),
        }
    }

    /// Adds values of single steps, put together as `over` says.
    fn steps(&mut self, name: &'static str, weight: f64, over: Over, values: &[(usize, [f64; 2], Option<&JudgeRef>)]) {
        if weight == 0.0 {
            return;
        }
        let (values, weight) = match over {
            Over::Mean => (values, weight / values.len().max(1) as f64),
            Over::Last => (&values[values.len().saturating_sub(1)..], weight),
            Over::Sum => (values, weight),
        };
        if values.is_empty() {
            self.missing.push(name);
        }
        for (step, [raw, normalised], judge) in values {
            self.add(name, Some(*step), [*raw, *normalised, weight], *judge);
        }
    }
}

/// The sum of the terms.
pub fn total(terms: &[RewardTerm]) -> f64 {
    terms.iter().map(RewardTerm::value).sum()
}

/// The sum of the terms of each name, for logs: the outcome is always seen apart from what shapes it.
pub fn by_name(terms: &[RewardTerm]) -> BTreeMap<&str, f64> {
    let mut sums = BTreeMap::new();
    for term in terms {
        *sums.entry(term.name.as_str()).or_default() += term.value();
    }
    sums
}

/// The reward of each of `steps` steps, and that of the whole episode: its last call has earned it, which may come after the last step (an answer,
/// or what could not be read).
pub fn per_step(terms: &[RewardTerm], steps: usize) -> (Vec<f64>, f64) {
    let (mut rewards, mut whole) = (vec![0.0; steps], 0.0);
    for term in terms {
        let step = term.step.and_then(|step| rewards.get_mut(step as usize));
        *step.unwrap_or(&mut whole) += term.value();
    }
    (rewards, whole)
}

/// The reward of an episode: a pure function of what was recorded, what was judged, and what is wanted.
///
/// What cannot be read gets `malformed` and nothing else, where that is set (RLTR, 2508.19598, algorithm 1: the -1 replaces, it does not
/// add). Without it, what cannot be read before there is a plan or an action has the lowest score of what nobody could judge: it is the policy's
/// zero, and no judge's failure. An episode that the environment ended has no reward.
pub fn compose(episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) -> Reward {
    let mut reward = Reward::default();
    if rules::disturbed(episode.stop.as_ref()) {
        reward.missing.push(name::OUTCOME);
        return reward;
    }
    let malformed = rules::malformed(episode.stop.as_ref());
    if let (true, Some(penalty)) = (malformed, config.malformed) {
        reward.add(name::MALFORMED, None, [penalty, penalty, 1.0], None);
        return reward;
    }
    let format = f64::from(!malformed);
    reward.whole(name::FORMAT, config.format, Some(([format; 2], None)));
    reward.whole(name::OUTCOME, config.outcome, episode.success.map(|solved| ([f64::from(solved); 2], None)));
    judged(&mut reward, episode, verdicts, config);
    stepwise(&mut reward, episode, verdicts, config);
    on_the_way(&mut reward, episode, verdicts, config);
    if let Some(floor) = config.floor.filter(|floor| total(&reward.terms) < *floor) {
        let sum = total(&reward.terms);
        reward.add(name::FLOOR, None, [sum, floor - sum, 1.0], None);
    }
    reward
}

/// What judges said of the whole episode (PilotRL, 2508.00344, section 2.2; RLTR, 2508.19598, section 3.2).
fn judged(reward: &mut Reward, episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) {
    let complete = verdicts.completeness.as_ref().filter(|judged| !judged.verdict.is_empty()).map(|judged| {
        let share = judged.verdict.iter().filter(|complete| **complete).count() as f64 / judged.verdict.len() as f64;
        ([share; 2], Some(&judged.by))
    });
    reward.whole(name::COMPLETENESS, config.completeness, complete);
    let finished = verdicts.end_to_end.as_ref().map(|judged| ([judged.verdict, judged.verdict / 2.0], Some(&judged.by)));
    reward.whole(name::END_TO_END, config.end_to_end, finished);
    let Some(plan) = &verdicts.plan_quality else {
        let unwritten = rules::malformed(episode.stop.as_ref()) && episode.plans.is_empty();
        return reward.whole(name::PLAN_QUALITY, config.plan_quality, unwritten.then_some(([0.0; 2], None)));
    };
    let PlanScores { correctness, executability, standardization } = plan.verdict;
    let scores =
        [(name::PLAN_CORRECTNESS, correctness), (name::PLAN_EXECUTABILITY, executability), (name::PLAN_STANDARDIZATION, standardization)];
    for (name, score) in scores {
        reward.whole(name, config.plan_quality / 3.0, Some(([score, (score - 1.0) / 4.0], Some(&plan.by))));
    }
}

/// What single steps earn or lose.
fn stepwise(reward: &mut Reward, episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) {
    let adherence: Vec<_> = verdicts
        .adherence
        .iter()
        .enumerate()
        .filter_map(|(step, judged)| judged.as_ref().map(|judged| (step, [judged.verdict, judged.verdict / 2.0], Some(&judged.by))))
        .collect();
    if rules::malformed(episode.stop.as_ref()) && episode.steps.is_empty() {
        reward.whole(name::ADHERENCE, config.adherence, Some(([0.0; 2], None)));
    } else {
        reward.steps(name::ADHERENCE, config.adherence, config.adherence_over, &adherence);
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
    reward.steps(name::EXPERT_MATCH, config.expert_match, Over::Mean, &matches);
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

/// What milestones on the way earn.
fn on_the_way(reward: &mut Reward, episode: &Episode, verdicts: &Verdicts, config: &RewardConfig) {
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
        reward.whole(name::CREDIT, config.credit, share.map(|share| ([share, share.min(config.credit_cap)], None)));
    }
}
