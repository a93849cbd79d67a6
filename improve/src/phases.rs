//! Chooses the tasks of the next phase from the failures of the current one (WebRL, 2411.02337, section 2.2; MiRA, 2603.19685, section
//! 3.5).

use std::collections::{BTreeMap, BTreeSet};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A task of a suite: a template and the seed that instantiates it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The template's name.
    pub template: String,
    /// The seed.
    pub seed: u64,
}

/// A task with the value critic's estimate for its initial state.
#[derive(Clone, Debug, PartialEq)]
pub struct ValuedTask {
    /// The task.
    pub task: TaskKey,
    /// The probability of success that the critic estimates.
    pub value: f64,
}

/// The difficulty level of a template within its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateLevel {
    /// The template's name.
    pub template: String,
    /// The family of easier and harder templates that it belongs to: its site.
    pub family: String,
    /// The difficulty, from 0.
    pub level: usize,
}

/// The results of a template's tasks in the phase that played it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of episodes with a verified outcome.
    pub episodes: usize,
    /// The number of successes.
    pub solved: usize,
}

/// The results from which the next phase is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseResults {
    /// The tasks that failed.
    pub failed: Vec<ValuedTask>,
    /// The results of each template that was played.
    pub tallies: BTreeMap<String, Tally>,
}

/// How the next phase is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseConfig {
    /// The minimum value of a failed task that is practised; tasks of lower value are still too hard (WebRL: 0.05).
    pub least_value: f64,
    /// The maximum value of a failed task that is practised; tasks of higher value failed by chance (WebRL: 0.75).
    pub most_value: f64,
    /// The minimum share of successes for a template to count as solved; the papers give no value.
    pub solved_rate: f64,
    /// The minimum number of episodes for a template to count as solved; the papers give no value.
    pub solved_episodes: usize,
}

/// The number of tasks to sample, and the seeds that they may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The number of tasks of the phase; WebRL uses 500.
    pub tasks: usize,
    /// The number of training seeds, which are those below it; tasks with larger seeds are for validation and test and are never practised.
    pub train_seeds: u64,
    /// The seed of the random choice.
    pub seed: u64,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self { least_value: 0.05, most_value: 0.75, solved_rate: 0.9, solved_episodes: 4 }
    }
}

/// The tasks of a phase, with statistics of the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// The tasks, in the order in which they are played.
    pub tasks: Vec<TaskKey>,
    /// The number of failed tasks that are ignored because their value lies outside the band.
    pub out_of_band: usize,
    /// Pairs of a solved template and the harder template that replaces it.
    pub promoted: Vec<(String, String)>,
}

impl PhaseConfig {
    /// Returns true if a value lies in the band, both ends included.
    pub fn in_band(&self, value: f64) -> bool {
        (self.least_value..=self.most_value).contains(&value)
    }

    /// Returns the tasks whose value lies in the band; callers can also use it on tasks that were valued before they are played.
    pub fn tasks_in_band<'a>(&self, tasks: &'a [ValuedTask]) -> Vec<&'a TaskKey> {
        tasks.iter().filter(|valued| self.in_band(valued.value)).map(|valued| &valued.task).collect()
    }

    /// Returns true if a template with these results counts as solved.
    fn is_solved(&self, tally: &Tally) -> bool {
        tally.episodes >= self.solved_episodes.max(1) && tally.solved as f64 >= self.solved_rate * tally.episodes as f64
    }

    fn check(&self) -> Result<()> {
        let (key, problem) = if self.least_value.is_nan() || self.most_value.is_nan() || self.least_value > self.most_value {
            ("most_value", format!("the band {} to {} is empty", self.least_value, self.most_value))
        } else if !(self.solved_rate > 0.0 && self.solved_rate <= 1.0) {
            ("solved_rate", format!("{} does not lie in (0, 1]", self.solved_rate))
        } else {
            return Ok(());
        };
        Err(Error::Config { key, problem })
    }
}

/// Chooses the tasks of the next phase: other seeds of the templates with failed tasks in the band (WebRL's in-breadth variants), in
/// proportion to the number of these failures, and a harder template of the same family for each solved template.
///
/// `variants(template, count)` returns up to `count` seeds of a template; tasks that failed are not played again. The same sampling seed
/// gives the same phase.
///
/// # Errors
/// A failed task or a variant is not a training task, a value is not a probability, or the configuration is invalid.
pub fn next_phase(
    config: &PhaseConfig,
    sampling: Sampling,
    results: &PhaseResults,
    levels: &[TemplateLevel],
    variants: impl Fn(&str, usize) -> Vec<u64>,
) -> Result<Phase> {
    config.check()?;
    check_failed(sampling, &results.failed)?;
    let mut rng = StdRng::seed_from_u64(sampling.seed);
    let in_band = config.tasks_in_band(&results.failed);
    let mut phase = Phase { out_of_band: results.failed.len() - in_band.len(), ..Phase::default() };
    let solved: BTreeSet<&str> =
        results.tallies.iter().filter(|(_, tally)| config.is_solved(tally)).map(|(name, _)| name.as_str()).collect();
    let mut weights: BTreeMap<&str, usize> = BTreeMap::new();
    for task in in_band.into_iter().filter(|task| !solved.contains(task.template.as_str())) {
        *weights.entry(&task.template).or_default() += 1;
    }
    for template in &solved {
        if let Some(harder) = harder(template, &solved, levels, &mut rng) {
            // It gets the weight of one failure, because a template that was never played has no failures of its own.
            weights.entry(harder).or_insert(1);
            phase.promoted.push(((*template).into(), harder.into()));
        }
    }
    let known: BTreeSet<&TaskKey> = results.failed.iter().map(|valued| &valued.task).collect();
    for (template, count) in shares(&weights, sampling.tasks) {
        // Request extra seeds, because up to this many may be failed tasks.
        let spare = known.iter().filter(|task| task.template == template).count();
        let drawn: BTreeSet<u64> = variants(template, count + spare).into_iter().collect();
        let mut fresh: Vec<TaskKey> = drawn.into_iter().map(|seed| TaskKey { template: template.into(), seed }).collect();
        if let Some(task) = fresh.iter().find(|task| task.seed >= sampling.train_seeds) {
            return Err(not_a_training_task(sampling, task));
        }
        fresh.retain(|task| !known.contains(task));
        fresh.shuffle(&mut rng);
        phase.tasks.extend(fresh.into_iter().take(count));
    }
    phase.tasks.shuffle(&mut rng);
    Ok(phase)
}

/// Chooses a template of the same family, one level up, that is not solved yet.
fn harder<'a>(template: &str, solved: &BTreeSet<&str>, levels: &'a [TemplateLevel], rng: &mut StdRng) -> Option<&'a str> {
    let current = levels.iter().find(|level| level.template == template)?;
    let is_next = |level: &&TemplateLevel| {
        level.family == current.family && level.level == current.level + 1 && !solved.contains(level.template.as_str())
    };
    let next: Vec<&TemplateLevel> = levels.iter().filter(is_next).collect();
    next.choose(rng).map(|level| level.template.as_str())
}

/// Distributes `tasks` in proportion to the weights, by the largest-remainder method.
fn shares<'a>(weights: &BTreeMap<&'a str, usize>, tasks: usize) -> Vec<(&'a str, usize)> {
    let total = weights.values().sum::<usize>().max(1);
    let mut shares: Vec<(&str, usize, usize)> = weights.iter().map(|(name, w)| (*name, tasks * w / total, tasks * w % total)).collect();
    let dealt: usize = shares.iter().map(|(_, share, _)| share).sum();
    shares.sort_by_key(|(name, _, remainder)| (std::cmp::Reverse(*remainder), *name));
    for (_, share, _) in shares.iter_mut().take(tasks - dealt) {
        *share += 1;
    }
    shares.sort();
    shares.into_iter().map(|(name, share, _)| (name, share)).filter(|(_, share)| *share > 0).collect()
}

fn check_failed(sampling: Sampling, failed: &[ValuedTask]) -> Result<()> {
    for (index, ValuedTask { task, value }) in failed.iter().enumerate() {
        if task.seed >= sampling.train_seeds {
            return Err(not_a_training_task(sampling, task));
        }
        if !(0.0..=1.0).contains(value) {
            return Err(Error::Item {
                index,
                problem: format!("the value of {} {} is {value}, not a probability", task.template, task.seed),
            });
        }
    }
    Ok(())
}

fn not_a_training_task(sampling: Sampling, task: &TaskKey) -> Error {
    let TaskKey { template, seed } = task;
    let last = sampling.train_seeds.saturating_sub(1);
    Error::Config { key: "train_seeds", problem: format!("{template} {seed} is no training task; seeds 0 to {last} are") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(template: &str, seed: u64, value: f64) -> ValuedTask {
        ValuedTask { task: TaskKey { template: template.into(), seed }, value }
    }

    fn level(template: &str, level: usize) -> TemplateLevel {
        TemplateLevel { template: template.into(), family: template.split('_').next().unwrap().into(), level }
    }

    fn levels() -> Vec<TemplateLevel> {
        vec![level("shop_add", 0), level("shop_order", 1), level("shop_swap", 1), level("shop_many", 2), level("desk_edit", 1)]
    }

    fn first_seeds(_: &str, n: usize) -> Vec<u64> {
        (0..n as u64).collect()
    }

    fn counts(phase: &Phase) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for task in &phase.tasks {
            *counts.entry(task.template.as_str()).or_default() += 1;
        }
        counts
    }

    fn chosen(
        tasks: usize,
        results: &PhaseResults,
        levels: &[TemplateLevel],
        variants: impl Fn(&str, usize) -> Vec<u64>,
        seed: u64,
    ) -> Result<Phase> {
        next_phase(&PhaseConfig::default(), Sampling { tasks, train_seeds: 9_000, seed }, results, levels, variants)
    }

    #[test]
    fn failures_in_the_band_become_variants_in_proportion_to_their_number() {
        let results = PhaseResults {
            failed: vec![
                failed("shop_add", 1, 0.05),
                failed("shop_add", 2, 0.75),
                failed("desk_edit", 0, 0.3),
                failed("desk_edit", 5, 0.049),
                failed("shop_swap", 3, 0.76),
            ],
            ..PhaseResults::default()
        };
        let phase = chosen(10, &results, &levels(), first_seeds, 7).unwrap();
        assert_eq!((phase.out_of_band, counts(&phase)), (2, [("desk_edit", 3), ("shop_add", 7)].into()));
        assert!(
            phase.tasks.iter().all(|task| results.failed.iter().all(|valued| valued.task != *task)),
            "failed tasks are not played again"
        );
        assert_eq!(phase.tasks.iter().collect::<BTreeSet<_>>().len(), 10);
        assert_eq!(phase, chosen(10, &results, &levels(), first_seeds, 7).unwrap());
        assert_ne!(phase.tasks, chosen(10, &results, &levels(), first_seeds, 8).unwrap().tasks);
        let few = |_: &str, n: usize| first_seeds("", n.min(4));
        assert_eq!(counts(&chosen(10, &results, &levels(), few, 7).unwrap()), [("desk_edit", 3), ("shop_add", 2)].into());
    }

    #[test]
    fn a_solved_template_is_replaced_by_a_harder_one() {
        let tally = |episodes, solved| Tally { episodes, solved };
        let tallies = [("shop_add", tally(10, 9)), ("shop_swap", tally(4, 4)), ("desk_edit", tally(3, 3)), ("shop_many", tally(10, 8))];
        let results = PhaseResults {
            failed: vec![failed("shop_add", 1, 0.5), failed("shop_many", 1, 0.5), failed("shop_many", 2, 0.5)],
            tallies: tallies.map(|(name, tally)| (name.to_owned(), tally)).into(),
        };
        let phase = chosen(9, &results, &levels(), first_seeds, 1).unwrap();
        let promoted: Vec<_> = phase.promoted.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(promoted, [("shop_add", "shop_order"), ("shop_swap", "shop_many")]);
        assert_eq!(counts(&phase), [("shop_many", 6), ("shop_order", 3)].into());
    }

    #[test]
    fn validation_and_test_are_never_practised() {
        let results = PhaseResults { failed: vec![failed("shop_add", 1, 0.5)], ..PhaseResults::default() };
        let beyond = |_: &str, n: usize| (8_999..8_999 + n as u64).collect();
        let problem = chosen(2, &results, &[], beyond, 0).unwrap_err().to_string();
        assert!(problem.contains("shop_add 9000 is no training task"), "{problem}");
        let results = PhaseResults { failed: vec![failed("shop_add", 10_000, 0.5)], ..PhaseResults::default() };
        assert!(chosen(2, &results, &[], first_seeds, 0).is_err());
        let results = PhaseResults { failed: vec![failed("shop_add", 1, f64::NAN)], ..PhaseResults::default() };
        assert!(chosen(2, &results, &[], first_seeds, 0).unwrap_err().to_string().contains("not a probability"));
        assert!(chosen(2, &PhaseResults::default(), &[], first_seeds, 0).unwrap().tasks.is_empty());
    }

    #[test]
    fn invalid_settings_are_refused() {
        for (wrong, key) in [
            (PhaseConfig { least_value: 0.8, ..Default::default() }, "`most_value`"),
            (PhaseConfig { solved_rate: 0.0, ..Default::default() }, "`solved_rate`"),
        ] {
            let problem =
                next_phase(&wrong, Sampling { tasks: 1, train_seeds: 9_000, seed: 0 }, &PhaseResults::default(), &[], first_seeds)
                    .unwrap_err()
                    .to_string();
            assert!(problem.contains(key), "{problem}");
        }
    }
}
