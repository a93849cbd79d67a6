//! The results of an experiment, as numbers and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::spec::{Arm, Spec};
use crate::statistics::{sign_flip_exact, wilson_of_clusters};

/// The result of one test episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// The arm.
    pub arm: String,
    /// The training seed.
    pub seed: u64,
    /// The level.
    pub level: String,
    /// The index of the task among those of its level.
    pub task: usize,
    /// Whether the task was solved.
    pub solved: bool,
    /// Whether all needed facts were read and all needed changes were made, whatever was answered; `None` if that is unknown.
    pub complete: Option<bool>,
    /// The number of actions.
    pub actions: usize,
}

/// How often an arm takes the expert's action in the expert's states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The arm.
    pub arm: String,
    /// The level.
    pub level: String,
    /// The number of states in which the arm took the expert's action.
    pub right: u64,
    /// The number of states.
    pub all: u64,
}

/// The result of a training round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// The arm.
    pub arm: String,
    /// The training seed.
    pub seed: u64,
    /// The round, from 1.
    pub round: usize,
    /// The number of episodes, or of states of an expert.
    pub episodes: usize,
    /// The number of episodes that were solved, or of states in which the expert's action was taken.
    pub solved: usize,
    /// The number of calls that were trained on.
    pub calls: usize,
    /// Why nothing was trained, if nothing was.
    pub note: Option<String>,
}

/// The results of an arm on a level, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The arm.
    pub arm: String,
    /// The level; `all` for the sum over the levels.
    pub level: String,
    /// The number of training seeds.
    pub seeds: usize,
    /// The number of solved test episodes.
    pub k: u64,
    /// The number of test episodes.
    pub n: u64,
    /// The Wilson interval of the success rate at 95 %. Its sample size is the effective number of episodes, because several seeds fail on the
    /// same tasks.
    pub interval: [f64; 2],
    /// The smallest and the largest success rate of a training seed. The interval accounts for the tasks that the seeds share, but not for the
    /// difference between one training and another.
    pub range: [f64; 2],
    /// The number of complete episodes, and the number of episodes for which completeness is known.
    pub complete: [u64; 2],
    /// The number of expert states in which the arm took the expert's action, and the number of expert states; `None` if none were played.
    #[serde(default)]
    pub matched: Option<[u64; 2]>,
    /// The mean number of actions over all episodes (ASAT of 2509.20616).
    pub asat: f64,
    /// The mean number of actions over the solved episodes (ASST); `None` if none was solved.
    pub asst: Option<f64>,
    /// The p-value of the two-sided exact sign-flip test against the first arm. Each task gives one difference, the sum over all seeds, because the
    /// seeds of a policy fail on the same tasks. With one seed it is McNemar's test. `None` for the first arm.
    pub p: Option<f64>,
    /// The arm that this one is compared with besides the first: `against`, or the arm whose rounds it continues; `None` if there is neither.
    #[serde(default)]
    pub against: Option<String>,
    /// The p-value of the same test against that arm.
    #[serde(default)]
    pub p_against: Option<f64>,
    /// The p-values of the same tests on complete instead of solved episodes, against the first arm and against that arm.
    #[serde(default)]
    pub p_complete: [Option<f64>; 2],
}

/// All results of an experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The experiment.
    pub spec: Spec,
    /// The results of each arm on each level.
    pub arms: Vec<ArmResult>,
    /// The results of the training rounds.
    #[serde(default)]
    pub trained: Vec<Trained>,
}

impl Results {
    /// Summarizes test episodes and expert states by level and arm.
    pub fn of(spec: &Spec, tested: &[Tested], matched: &[Matched]) -> Self {
        let mut levels: Vec<Option<&str>> = spec.levels.iter().map(|level| Some(&level[..])).collect();
        if levels.len() > 1 {
            levels.push(None);
        }
        let mut arms = Vec::new();
        for level in levels {
            let first = select(tested, &spec.arms[0].name, level);
            for (index, arm) in spec.arms.iter().enumerate() {
                let own = select(tested, &arm.name, level);
                let p = |what: &dyn Fn(&Tested) -> bool| (index > 0).then(|| paired(&own, (&spec.arms[0], &first), what));
                let other = spec.against(arm).map(|other| (other, select(tested, &other.name, level))).filter(|(_, all)| !all.is_empty());
                let p_against = |what: &dyn Fn(&Tested) -> bool| other.as_ref().map(|(arm, other)| paired(&own, (arm, other), what));
                let (solved, complete) = (&|one: &Tested| one.solved, &|one: &Tested| one.complete == Some(true));
                arms.extend((!own.is_empty()).then(|| ArmResult {
                    p: p(solved),
                    against: other.as_ref().map(|(other, _)| other.name.clone()),
                    p_against: p_against(solved),
                    p_complete: [p(complete), p_against(complete)],
                    matched: matching(matched, &arm.name, level),
                    ..summarize(&arm.name, level, &own)
                }));
            }
        }
        Self { spec: spec.clone(), arms, trained: Vec::new() }
    }

    /// Formats the results as a table in Markdown.
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| level | arm | solved | interval | seeds, least to most | complete | as the expert | ASAT | ASST | p, solved | p, complete | against | p, solved | p, complete |\n",
        );
        out.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        for arm in &self.arms {
            let percent = |x: f64| 100.0 * x;
            let [low, high] = arm.interval.map(percent);
            let [least, most] = arm.range.map(percent);
            let asst = arm.asst.map_or("".into(), |asst| format!("{asst:.1}"));
            let [p, p_against, complete, complete_against] = [arm.p, arm.p_against, arm.p_complete[0], arm.p_complete[1]]
                .map(|p| p.map_or("".into(), |p| if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }));
            let matched = arm.matched.map_or("".into(), |[right, all]| format!("{right} of {all}"));
            let against = arm.against.as_deref().unwrap_or_default();
            let _ = writeln!(
                out,
                "| {} | {} | {} of {} | {low:.0} to {high:.0} % | {least:.0} to {most:.0} % of {} | {} of {} | {matched} | {:.1} | {asst} | {p} | {complete} | {against} | {p_against} | {complete_against} |",
                arm.level, arm.arm, arm.k, arm.n, arm.seeds, arm.complete[0], arm.complete[1], arm.asat
            );
        }
        for Trained { arm, seed, round, note, .. } in &self.trained {
            if let Some(note) = note {
                let _ = write!(out, "\nRound {round} of arm {arm} with seed {seed} taught nothing: {note}\n");
            }
        }
        out
    }
}

/// The test episodes of an arm by seed, level and task.
type Selected<'a> = BTreeMap<(u64, &'a str, usize), &'a Tested>;

/// Selects the test episodes of an arm on a level, or on all levels.
fn select<'a>(tested: &'a [Tested], arm: &str, level: Option<&str>) -> Selected<'a> {
    let wanted = tested.iter().filter(|one| one.arm == arm && level.is_none_or(|level| one.level == level));
    wanted.map(|one| ((one.seed, &one.level[..], one.task), one)).collect()
}

/// Sums up an arm's expert states on a level, or on all levels.
fn matching(matched: &[Matched], arm: &str, level: Option<&str>) -> Option<[u64; 2]> {
    let own = matched.iter().filter(|one| one.arm == arm && level.is_none_or(|level| one.level == level));
    own.map(|one| [one.right, one.all]).reduce(|a, b| [a[0] + b[0], a[1] + b[1]])
}

/// Tests the difference of two arms on the tasks that both played. An arm without training was played with one seed only, which is compared
/// with every seed of the other arm.
fn paired(own: &Selected<'_>, (arm, first): (&Arm, &Selected<'_>), what: &dyn Fn(&Tested) -> bool) -> f64 {
    let only = first.values().next().map_or(0, |one| one.seed);
    let mut gained: BTreeMap<(&str, usize), i64> = BTreeMap::new();
    for ((seed, level, task), one) in own {
        let Some(other) = first.get(&(if arm.rounds == 0 { only } else { *seed }, *level, *task)) else { continue };
        *gained.entry((*level, *task)).or_default() += i64::from(what(one)) - i64::from(what(other));
    }
    sign_flip_exact(&gained.into_values().collect::<Vec<_>>())
}

/// Summarizes the test episodes of an arm, without tests against other arms.
fn summarize(arm: &str, level: Option<&str>, own: &Selected<'_>) -> ArmResult {
    let (k, n) = (own.values().filter(|one| one.solved).count() as u64, own.len() as u64);
    let mut by_seed: BTreeMap<u64, [f64; 2]> = BTreeMap::new();
    for one in own.values() {
        let counts = by_seed.entry(one.seed).or_default();
        *counts = [counts[0] + f64::from(u8::from(one.solved)), counts[1] + 1.0];
    }
    let mut by_task: BTreeMap<(&str, usize), [u64; 2]> = BTreeMap::new();
    for ((_, level, task), one) in own {
        let counts = by_task.entry((*level, *task)).or_default();
        *counts = [counts[0] + u64::from(one.solved), counts[1] + 1];
    }
    let rates = || by_seed.values().map(|[solved, of]| solved / of);
    let mean = |actions: &mut dyn Iterator<Item = usize>| {
        let actions: Vec<usize> = actions.collect();
        (!actions.is_empty()).then(|| actions.iter().sum::<usize>() as f64 / actions.len() as f64)
    };
    let known = || own.values().filter_map(|one| one.complete);
    ArmResult {
        arm: arm.into(),
        level: level.unwrap_or("all").into(),
        seeds: by_seed.len(),
        k,
        n,
        interval: wilson_of_clusters(&by_task.into_values().collect::<Vec<_>>()),
        range: [rates().fold(1.0, f64::min), rates().fold(0.0, f64::max)],
        complete: [known().filter(|complete| *complete).count() as u64, known().count() as u64],
        asat: mean(&mut own.values().map(|one| one.actions)).unwrap_or(0.0),
        asst: mean(&mut own.values().filter(|one| one.solved).map(|one| one.actions)),
        p: None,
        against: None,
        matched: None,
        p_against: None,
        p_complete: [None; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_summed_and_compared_on_the_same_tasks() {
        let text = "{name: x, claim: y, start: m, levels: [medium, long], test: 8, seeds: [1, 2], arms: [{name: a}, {name: b, rounds: 1}, {name: c, after: b, rounds: 2}]}";
        let spec: Spec = serde_norway::from_str(text).unwrap();
        let one = |arm: &str, seed, level: &str, task, solved| Tested {
            arm: arm.into(),
            seed,
            level: level.into(),
            task,
            solved,
            complete: Some(true),
            actions: task,
        };
        let mut tested = Vec::new();
        for task in 0..8 {
            // The first arm is not trained, so it was measured with one seed.
            tested.push(one("a", 1, "medium", task, task < 2));
            tested.extend([1, 2].map(|seed| one("b", seed, "medium", task, seed == 1 || task < 4)));
            tested.extend([1, 2].map(|seed| one("c", seed, "medium", task, true)));
        }
        let matched = |level: &str, right| Matched { arm: "b".into(), level: level.into(), right, all: 10 };
        let results = Results::of(&spec, &tested, &[matched("medium", 4), matched("medium", 7), matched("long", 1)]);
        let of = |level: &str| results.arms.iter().find(|arm| arm.arm == "b" && arm.level == level).unwrap().matched;
        assert_eq!((of("medium"), of("all")), (Some([11, 20]), Some([12, 30])));
        let b = results.arms.iter().find(|arm| arm.arm == "b" && arm.level == "medium").unwrap();
        assert_eq!((b.k, b.n, b.seeds, b.range, b.complete), (12, 16, 2, [0.5, 1.0], [16, 16]));
        // Arm b is better on six tasks, on two of them with both seeds, and worse on none, so only equal signs reach its sum.
        assert!((b.p.unwrap() - 2.0 * 0.5f64.powi(6)).abs() < 1e-12, "{b:?}");
        let c = results.arms.iter().find(|arm| arm.arm == "c" && arm.level == "medium").unwrap();
        assert!(b.p_against.is_none() && (c.p_against.unwrap() - 2.0 * 0.5f64.powi(4)).abs() < 1e-12, "{c:?}");
        assert_eq!(c.interval, wilson_of_clusters(&[[2, 2]; 8]), "eight tasks, each twice");
        assert_eq!((c.against.as_deref(), c.p_complete), (Some("b"), [Some(1.0); 2]), "all were complete in all arms");
        assert_eq!((b.asat, b.asst.unwrap()), (3.5, (28.0 + 6.0) / 12.0));
        assert!(results.arms.iter().any(|arm| arm.level == "all") && results.table().contains("| medium | b | 12 of 16 |"));
    }
}
