//! Compares a model judge's verdicts with the ground truth of suite episodes.

use std::collections::BTreeMap;

use milepost_runtime::{Episode, Judged, Limits, PlanScores, Question, Verdicts};

use crate::agreement::{Agreement, agreement};

/// The questions, each with its highest grade.
const GRADES: [(&str, u8); 6] = [
    ("completeness", 1),
    ("adherence", 2),
    ("end_to_end", 2),
    ("plan_correctness", 5),
    ("plan_executability", 5),
    ("plan_standardization", 5),
];

/// Collects pairs of true and judged grades.
#[derive(Debug)]
pub struct Audit {
    /// The maximum number of steps of an episode whose adherence is asked for.
    steps: usize,
    /// Pairs of grades (truth, verdict) by question.
    pairs: BTreeMap<&'static str, Vec<(u8, Option<u8>)>>,
}

impl Audit {
    /// Creates an empty audit that asks for the adherence of at most this many steps of an episode.
    pub fn new(steps: usize) -> Self {
        Self { steps, pairs: BTreeMap::new() }
    }

    /// Returns the questions to ask about an episode.
    pub fn questions(&self, episode: &Episode) -> Vec<Question> {
        let steps = sampled(episode.steps.len(), self.steps).map(|step| Question::Adherence { step });
        [Question::Completeness, Question::EndToEnd, Question::PlanQuality].into_iter().chain(steps).collect()
    }

    /// Pairs the truths of an episode with the verdicts, rounded to whole grades. A question whose truth is unknown is left out.
    pub fn compare(&mut self, episode: &Episode, truth: &Verdicts, verdicts: &Verdicts) {
        let pairs = &mut self.pairs;
        let mut put = |question, truth: Option<f64>, verdict: Option<f64>| {
            let grade = |value: f64| value.round() as u8;
            if let Some(truth) = truth {
                pairs.entry(question).or_default().push((grade(truth), verdict.map(grade)));
            }
        };
        let complete = |verdicts: &Verdicts| {
            let judged = verdicts.completeness.as_ref()?;
            Some(judged.verdict.iter().filter(|complete| **complete).count() as f64 / judged.verdict.len().max(1) as f64)
        };
        let grade = |judged: Option<&Judged<f64>>| judged.map(|judged| judged.verdict);
        put("completeness", complete(truth), complete(verdicts));
        put("end_to_end", grade(truth.end_to_end.as_ref()), grade(verdicts.end_to_end.as_ref()));
        for step in sampled(episode.steps.len(), self.steps) {
            let at = |verdicts: &Verdicts| grade(verdicts.adherence.get(step).and_then(Option::as_ref));
            put("adherence", at(truth), at(verdicts));
        }
        let (truth, verdict) = (truth.plan_quality.as_ref(), verdicts.plan_quality.as_ref());
        let scores = |plan: &PlanScores| [plan.correctness, plan.executability, plan.standardization];
        for (index, question) in ["plan_correctness", "plan_executability", "plan_standardization"].into_iter().enumerate() {
            let score = |judged: &Judged<PlanScores>| scores(&judged.verdict)[index];
            put(question, truth.map(score), verdict.map(score));
        }
    }

    /// Computes the agreement on each question.
    pub fn agreement(&self) -> Vec<(&'static str, Agreement)> {
        GRADES.iter().map(|(question, top)| (*question, agreement(self.pairs.get(question).map_or(&[], Vec::as_slice), *top))).collect()
    }
}

/// Returns the index of the template that an episode of an audit is played on. The episodes are spread over all templates, even if there are
/// fewer episodes than templates; `index` is the episode's index, from 0.
pub fn spread_template(index: usize, episodes: usize, templates: usize) -> usize {
    index * templates / episodes.max(1) % templates
}

/// Returns limits that end an episode after half of its oracle's plan.
pub fn half_of_plan(plan_steps: usize, limits: &Limits) -> Limits {
    let half = u32::try_from(plan_steps / 2).unwrap_or(u32::MAX);
    Limits { max_steps: half.clamp(1, limits.max_steps), ..limits.clone() }
}

/// Returns the indices of at most `most` steps, spread over the episode.
fn sampled(steps: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = steps.min(most);
    (0..count).map(move |index| index * steps / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_spread_over_the_templates() {
        let spread = |episodes: usize, templates: usize| (0..episodes).map(|index| spread_template(index, episodes, templates)).collect();
        let found: [Vec<usize>; 3] = [spread(2, 6), spread(4, 2), spread(3, 3)];
        assert_eq!(found, [vec![0, 3], vec![0, 0, 1, 1], vec![0, 1, 2]]);
    }

    #[test]
    fn an_episode_is_cut_at_half_of_its_plan_but_not_before_its_first_action() {
        let limits = Limits { max_steps: 10, ..Limits::default() };
        assert_eq!([0, 1, 7, 40].map(|steps| half_of_plan(steps, &limits).max_steps), [1, 1, 3, 10]);
    }

    #[test]
    fn steps_are_spread_over_the_episode() {
        for (steps, most, want) in [(3, 4, vec![0, 1, 2]), (8, 4, vec![0, 2, 4, 6]), (9, 2, vec![0, 4]), (5, 0, vec![]), (0, 4, vec![])] {
            assert_eq!(sampled(steps, most).collect::<Vec<_>>(), want);
        }
    }
}
