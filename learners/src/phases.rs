//! The tasks of the next phase, made from the failures of this one (WebRL, 2411.02337, section 2.2; MiRA, 2603.19685, section 3.5).

use std::collections::{BTreeMap, BTreeSet};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A task of a suite: a template and the seed that fills it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The template's name.
    pub template: String,
    /// Its seed.
    pub seed: u64,
}

/// A task with the value critic's estimate at its initial state.
#[derive(Clone, Debug, PartialEq)]
pub struct Valued {
    /// The task.
    pub task: TaskKey,
    /// The critic's chance of success.
    pub value: f64,
}

/// A template and its place among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The template's name.
    pub template: String,
    /// What it shares with harder and easier ones: its site.
    pub family: String,
    /// How hard it is, from 0.
    pub level: usize,
}

/// What a template's tasks came to in the phase that played it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Episodes with a verified outcome.
    pub episodes: usize,
    /// Successes.
    pub solved: usize,
}

/// What this phase left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// The tasks that failed.
    pub failed: Vec<Valued>,
    /// The templates that were tried.
    pub tallies: BTreeMap<String, Tally>,
}

/// How the next phase is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseConfig {
    /// Failures of a lower value are out of reach yet (WebRL: 0.05).
    pub least_value: f64,
    /// Failures of a higher value were bad luck (WebRL: 0.75).
    pub most_value: f64,
    /// A template with at least this share of successes is solved; not published.
    pub solved_rate: f64,
    /// Episodes before a template can count as solved; not published.
    pub solved_episodes: usize,
}

/// How much is drawn, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Tasks of the phase; WebRL has 500.
    pub tasks: usize,
    /// Seeds from here on are no training tasks: validation and test are never practised.
    pub train_seeds: u64,
    /// Seed of the choice.
    pub seed: u64,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self { least_value: 0.05, most_value: 0.75, solved_rate: 0.9, solved_episodes: 4 }
    }
}

/// The tasks of a phase, and where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// The tasks, in the order in which they are to be played.
    pub tasks: Vec<TaskKey>,
    /// Failures whose value lies outside the band: nothing is made of them.
    pub out_of_band: usize,
    /// Solved templates with the harder ones that take their place.
    pub promoted: Vec<(String, String)>,
}

impl PhaseConfig {
    /// Whether a value lies in the band, both ends included.
    pub fn in_band(&self, value: f64) -> bool {
        (self.least_value..=self.most_value).contains(&value)
    }

    /// Those of some tasks whose value lies in the band: for callers that can value a task before it is played.
    pub fn admit<'a>(&self, tasks: &'a [Valued]) -> Vec<&'a TaskKey> {
        tasks.iter().filter(|valued| self.in_band(valued.value)).map(|valued| &valued.task).collect()
    }

    fn solved(&self, tally: &Tally) -> bool {
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

/// Chooses the tasks of the next phase: other seeds of the templates that failed within reach (WebRL's in-breadth variants), as many of
/// each as its failures weigh, and a harder template of the same family for each that is solved.
///
/// `variants` names up to that many seeds of a template; those that failed are not played again. The same for the same seed.
///
/// # Errors
/// A failed task or a variant that is no training task, a value that is no probability.
pub fn next_phase(
    config: &PhaseConfig,
    draw: Draw,
    past: &Past,
    ladder: &[Rung],
    variants: impl Fn(&str, usize) -> Vec<u64>,
) -> Result<Phase> {
    config.check()?;
    check_failed(draw, &past.failed)?;
    let mut rng = StdRng::seed_from_u64(draw.seed);
    let admitted = config.admit(&past.failed);
    let mut phase = Phase { out_of_band: past.failed.len() - admitted.len(), ..Phase::default() };
    let solved: BTreeSet<&str> = past.tallies.iter().filter(|(_, tally)| config.solved(tally)).map(|(name, _)| name.as_str()).collect();
    let mut weights: BTreeMap<&str, usize> = BTreeMap::new();
    for task in admitted.into_iter().filter(|task| !solved.contains(task.template.as_str())) {
        *weights.entry(&task.template).or_default() += 1;
    }
    for template in &solved {
        if let Some(harder) = harder(template, &solved, ladder, &mut rng) {
            // One failure's weight: a template that was never tried has no failures of its own.
            weights.entry(harder).or_insert(1);
            phase.promoted.push(((*template).into(), harder.into()));
        }
    }
    let known: BTreeSet<&TaskKey> = past.failed.iter().map(|valued| &valued.task).collect();
    for (template, count) in shares(&weights, draw.tasks) {
        // As many more as could be known already.
        let spare = known.iter().filter(|task| task.template == template).count();
        let drawn: BTreeSet<u64> = variants(template, count + spare).into_iter().collect();
        let mut fresh: Vec<TaskKey> = drawn.into_iter().map(|seed| TaskKey { template: template.into(), seed }).collect();
        if let Some(task) = fresh.iter().find(|task| task.seed >= draw.train_seeds) {
            return Err(outside(draw, task));
        }
        fresh.retain(|task| !known.contains(task));
        fresh.shuffle(&mut rng);
        phase.tasks.extend(fresh.into_iter().take(count));
    }
    phase.tasks.shuffle(&mut rng);
    Ok(phase)
}

/// A template of the same family, one level up, that is not solved yet.
fn harder<'a>(template: &str, solved: &BTreeSet<&str>, ladder: &'a [Rung], rng: &mut StdRng) -> Option<&'a str> {
    let here = ladder.iter().find(|rung| rung.template == template)?;
    let above = |rung: &&Rung| rung.family == here.family && rung.level == here.level + 1 && !solved.contains(rung.template.as_str());
    let above: Vec<&Rung> = ladder.iter().filter(above).collect();
    above.choose(rng).map(|rung| rung.template.as_str())
}

/// Deals `tasks` out by weight, the rest to the largest remainders.
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

fn check_failed(draw: Draw, failed: &[Valued]) -> Result<()> {
    for (index, Valued { task, value }) in failed.iter().enumerate() {
        if task.seed >= draw.train_seeds {
            return Err(outside(draw, task));
        }
        if !(0.0..=1.0).contains(value) {
            return Err(Error::Batch {
                index,
                problem: format!("the value of {} {} is {value}, not a probability", task.template, task.seed),
            });
        }
    }
    Ok(())
}

fn outside(draw: Draw, task: &TaskKey) -> Error {
    let TaskKey { template, seed } = task;
    let last = draw.train_seeds.saturating_sub(1);
    Error::Config { key: "train_seeds", problem: format!("{template} {seed} is no training task; seeds 0 to {last} are") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(template: &str, seed: u64, value: f64) -> Valued {
        Valued { task: TaskKey { template: template.into(), seed }, value }
    }

    fn rung(template: &str, level: usize) -> Rung {
        Rung { template: template.into(), family: template.split('_').next().unwrap().into(), level }
    }

    fn ladder() -> Vec<Rung> {
        vec![rung("shop_add", 0), rung("shop_order", 1), rung("shop_swap", 1), rung("shop_many", 2), rung("desk_edit", 1)]
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

    fn chosen(tasks: usize, past: &Past, ladder: &[Rung], variants: impl Fn(&str, usize) -> Vec<u64>, seed: u64) -> Result<Phase> {
        next_phase(&PhaseConfig::default(), Draw { tasks, train_seeds: 9_000, seed }, past, ladder, variants)
    }

    #[test]
    fn failures_within_reach_become_variants_by_their_number() {
        let past = Past {
            failed: vec![
                failed("shop_add", 1, 0.05),
                failed("shop_add", 2, 0.75),
                failed("desk_edit", 0, 0.3),
                failed("desk_edit", 5, 0.049),
                failed("shop_swap", 3, 0.76),
            ],
            ..Past::default()
        };
        let phase = chosen(10, &past, &ladder(), first_seeds, 7).unwrap();
        assert_eq!((phase.out_of_band, counts(&phase)), (2, [("desk_edit", 3), ("shop_add", 7)].into()));
        assert!(phase.tasks.iter().all(|task| past.failed.iter().all(|valued| valued.task != *task)), "failed tasks are not played again");
        assert_eq!(phase.tasks.iter().collect::<BTreeSet<_>>().len(), 10);
        assert_eq!(phase, chosen(10, &past, &ladder(), first_seeds, 7).unwrap());
        assert_ne!(phase.tasks, chosen(10, &past, &ladder(), first_seeds, 8).unwrap().tasks);
        let few = |_: &str, n: usize| first_seeds("", n.min(4));
        assert_eq!(counts(&chosen(10, &past, &ladder(), few, 7).unwrap()), [("desk_edit", 3), ("shop_add", 2)].into());
    }

    #[test]
    fn a_solved_template_makes_room_for_a_harder_one() {
        let tally = |episodes, solved| Tally { episodes, solved };
        let tallies = [("shop_add", tally(10, 9)), ("shop_swap", tally(4, 4)), ("desk_edit", tally(3, 3)), ("shop_many", tally(10, 8))];
        let past = Past {
            failed: vec![failed("shop_add", 1, 0.5), failed("shop_many", 1, 0.5), failed("shop_many", 2, 0.5)],
            tallies: tallies.map(|(name, tally)| (name.to_owned(), tally)).into(),
        };
        let phase = chosen(9, &past, &ladder(), first_seeds, 1).unwrap();
        let promoted: Vec<_> = phase.promoted.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(promoted, [("shop_add", "shop_order"), ("shop_swap", "shop_many")]);
        assert_eq!(counts(&phase), [("shop_many", 6), ("shop_order", 3)].into());
    }

    #[test]
    fn validation_and_test_are_never_practised() {
        let past = Past { failed: vec![failed("shop_add", 1, 0.5)], ..Past::default() };
        let beyond = |_: &str, n: usize| (8_999..8_999 + n as u64).collect();
        let problem = chosen(2, &past, &[], beyond, 0).unwrap_err().to_string();
        assert!(problem.contains("shop_add 9000 is no training task"), "{problem}");
        let past = Past { failed: vec![failed("shop_add", 10_000, 0.5)], ..Past::default() };
        assert!(chosen(2, &past, &[], first_seeds, 0).is_err());
        let past = Past { failed: vec![failed("shop_add", 1, f64::NAN)], ..Past::default() };
        assert!(chosen(2, &past, &[], first_seeds, 0).unwrap_err().to_string().contains("not a probability"));
        assert!(chosen(2, &Past::default(), &[], first_seeds, 0).unwrap().tasks.is_empty());
    }

    #[test]
    fn figures_that_mean_nothing_are_refused() {
        for (wrong, key) in [
            (PhaseConfig { least_value: 0.8, ..Default::default() }, "`most_value`"),
            (PhaseConfig { solved_rate: 0.0, ..Default::default() }, "`solved_rate`"),
        ] {
            let problem = next_phase(&wrong, Draw { tasks: 1, train_seeds: 9_000, seed: 0 }, &Past::default(), &[], first_seeds)
                .unwrap_err()
                .to_string();
            assert!(problem.contains(key), "{problem}");
        }
    }
}
