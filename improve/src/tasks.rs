//! Chooses the tasks that a round plays.

use std::collections::BTreeMap;

use milepost_runtime::Split;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::error::{Error, Result};
use crate::host::{Assignment, TaskSuite, Template};
use crate::phases::{PhaseConfig, PhaseResults, Sampling, TaskKey, TemplateLevel, next_phase};

/// The number of successes and the number of episodes of each template, by its id.
pub type Counts = BTreeMap<String, [usize; 2]>;

/// Selects the templates of these levels that may be trained on, and among them only the named ones if `named` is not empty.
///
/// # Errors
/// A level or template does not exist.
pub fn select_templates(suite: &dyn TaskSuite, levels: &[String], named: &[String]) -> Result<Vec<Template>> {
    let all = suite.templates();
    if let Some(unknown) = levels.iter().find(|level| all.iter().all(|template| template.level != **level)) {
        return Err(Error::bad_input(format!("there is no level {unknown:?}; the levels are easy, medium or long")));
    }
    let of_levels: Vec<Template> = all.into_iter().filter(|template| !template.held_out && levels.contains(&template.level)).collect();
    if of_levels.is_empty() {
        return Err(Error::bad_input("improve.levels names no level; use easy, medium or long"));
    }
    if let Some(unknown) = named.iter().find(|name| of_levels.iter().all(|template| template.id != **name)) {
        let known: Vec<&str> = of_levels.iter().map(|template| template.id.as_str()).collect();
        return Err(Error::bad_input(format!(
            "improve.templates: the levels have no trained template {unknown}; use some of {}",
            known.join(", ")
        )));
    }
    Ok(of_levels.into_iter().filter(|template| named.is_empty() || named.contains(&template.id)).collect())
}

/// Draws the training tasks of a round, each as a group of episodes that differ in their sampling. Templates that succeed only sometimes teach
/// the most, so a template is drawn with weight `p (1 - p)` of its known success rate `p`, and never with less than 0.05.
pub fn training(templates: &[Template], known: &Counts, tasks: usize, group: usize, seed: u64) -> Vec<Assignment> {
    let mut rng = StdRng::seed_from_u64(seed);
    let weight = |template: &Template| {
        let [solved, played] = known.get(&template.id).copied().unwrap_or_default();
        // One success and one failure are added, so that no rate is certain.
        let p = (solved + 1) as f64 / (played + 2) as f64;
        (p * (1.0 - p)).max(0.05)
    };
    let mut assignments = Vec::with_capacity(tasks * group);
    for task in 0..tasks {
        let template = match known.is_empty() {
            // Without any known success rate, the tasks go through the templates in turn.
            true => Some(&templates[task % templates.len()]),
            false => templates.choose_weighted(&mut rng, weight).ok(),
        };
        let task_seed = rng.random_range(Split::Train.seeds());
        for _ in 0..group {
            let sampling = rng.random();
            assignments.extend(template.map(|template| Assignment { template: template.clone(), seed: task_seed, sampling }));
        }
    }
    assignments
}

/// Draws the training tasks of a MiRA round: other seeds of the templates whose failures are within reach according to the value critic, and
/// harder templates instead of solved ones (WebRL, 2411.02337, section 2.2). If these are too few, [`training`] draws the rest.
///
/// # Errors
/// [`next_phase`] refuses the configuration.
pub fn phased(
    templates: &[Template],
    config: &PhaseConfig,
    past: &PhaseResults,
    tasks: usize,
    group: usize,
    seed: u64,
) -> Result<Vec<Assignment>> {
    let level =
        |template: &Template| TemplateLevel { template: template.id.clone(), family: template.site.clone(), level: template.level_rank };
    let levels: Vec<TemplateLevel> = templates.iter().map(level).collect();
    let train = Split::Train.seeds();
    let variants = |template: &str, count: usize| {
        let index = templates.iter().position(|known| known.id == template).unwrap_or_default() as u64;
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(index));
        (0..count).map(|_| rng.random_range(train.clone())).collect()
    };
    let phase = next_phase(config, Sampling { tasks, train_seeds: train.end, seed }, past, &levels, variants)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut assignments = Vec::with_capacity(tasks * group);
    for TaskKey { template, seed } in &phase.tasks {
        if let Some(template) = templates.iter().find(|known| known.id == *template) {
            assignments.extend((0..group).map(|_| Assignment { template: template.clone(), seed: *seed, sampling: rng.random() }));
        }
    }
    let known: Counts = past.tallies.iter().map(|(id, tally)| (id.clone(), [tally.solved, tally.episodes])).collect();
    assignments.extend(training(templates, &known, tasks.saturating_sub(phase.tasks.len()), group, rng.random()));
    Ok(assignments)
}

/// Lists `count` tasks of a split, from the index `first` on, which go through all templates in turn. The seed of the sampling is that of the
/// task.
pub fn measuring(templates: &[Template], split: Split, first: usize, count: usize) -> Vec<Assignment> {
    let range = split.seeds();
    let span = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    // After this many tasks each template would get the same seeds again, so from then on it gets the next ones.
    let period = (span / gcd(span, templates.len())).saturating_mul(templates.len());
    let one = |index: usize| {
        let seed = range.start + ((index + index / period) % span) as u64;
        Assignment { template: templates[index % templates.len()].clone(), seed, sampling: seed }
    };
    (first..first + count).map(one).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::ValuedTask;
    use crate::testing::{LEVELS, TestSuite};

    fn templates(levels: &[String], named: &[String]) -> Result<Vec<Template>> {
        select_templates(&TestSuite, levels, named)
    }

    #[test]
    fn training_draws_training_seeds_in_groups_and_prefers_templates_that_succeed_sometimes() {
        let templates = templates(&["medium".into()], &[]).unwrap();
        let known: Counts = templates.iter().map(|t| (t.id.clone(), [0, 40])).collect();
        let mut uncertain = known.clone();
        uncertain.insert(templates[3].id.clone(), [20, 40]);
        let drawn = training(&templates, &uncertain, 200, 2, 1);
        assert!(drawn.iter().all(|a| Split::of(a.seed) == Split::Train && !a.template.held_out));
        assert!(drawn.chunks(2).all(|group| group[0].seed == group[1].seed && group[0].sampling != group[1].sampling));
        let share = drawn.iter().filter(|a| a.template.id == templates[3].id).count() as f64 / drawn.len() as f64;
        assert!(share > 1.5 / templates.len() as f64, "{share}");
        assert_eq!(drawn.len(), training(&templates, &uncertain, 200, 2, 1).len());
    }

    #[test]
    fn a_phase_consists_of_failures_within_reach_and_is_filled_up() {
        let templates = templates(&["medium".into(), "long".into()], &[]).unwrap();
        let (near, far) = (templates[0].id.as_str(), templates[1].id.as_str());
        let failed = |template: &str, value| ValuedTask { task: TaskKey { template: template.into(), seed: 3 }, value };
        let past = PhaseResults { failed: vec![failed(near, 0.4), failed(far, 0.01)], ..PhaseResults::default() };
        let config = PhaseConfig::default();
        let drawn = phased(&templates, &config, &past, 6, 2, 1).unwrap();
        assert!(drawn.len() == 12 && drawn.iter().all(|a| a.template.id == near && a.seed != 3 && Split::of(a.seed) == Split::Train));
        assert!(drawn.chunks(2).all(|group| group[0].seed == group[1].seed && group[0].sampling != group[1].sampling));
        let each: Vec<ValuedTask> = templates.iter().map(|template| failed(&template.id, 0.4)).collect();
        let past = PhaseResults { failed: each, ..PhaseResults::default() };
        assert_eq!(phased(&templates, &config, &past, 2 * templates.len(), 1, u64::MAX).unwrap().len(), 2 * templates.len());
        let nothing = phased(&templates, &config, &PhaseResults::default(), 6, 2, 1).unwrap();
        assert_eq!(nothing.len(), 12, "without failures the tasks are drawn as in a first round");
    }

    #[test]
    fn measuring_goes_through_all_templates_on_seeds_of_its_split() {
        let templates = templates(&["medium".into(), "long".into()], &[]).unwrap();
        let drawn = measuring(&templates, Split::Validation, 990, 30);
        assert!(drawn.iter().all(|a| Split::of(a.seed) == Split::Validation));
        let ids: std::collections::BTreeSet<_> = drawn.iter().map(|a| a.template.id.clone()).collect();
        assert_eq!(ids.len(), templates.len());
        // Each seed of each template comes once before any comes again.
        let all = measuring(&templates[..4], Split::Validation, 0, 4000);
        assert_eq!(all.iter().map(|a| (a.template.id.clone(), a.seed)).collect::<std::collections::BTreeSet<_>>().len(), 4000);
        assert!(super::tests::templates(&["huge".into()], &[]).is_err() && super::tests::templates(&[], &[]).is_err());
        let named = |name: &str| super::tests::templates(&["medium".into(), "long".into()], &[name.into()]);
        assert_eq!(named("long_1").unwrap().iter().map(|template| template.id.clone()).collect::<Vec<_>>(), ["long_1"]);
        assert!(named("held_out").unwrap_err().to_string().contains("long_1"), "a held-out template cannot be trained on");
        assert_eq!(LEVELS.len(), 3);
    }
}
