//! Which tasks a round plays.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use milepost_learners::phases::{Draw, Past, PhaseConfig, Rung, TaskKey, next_phase};
use milepost_runtime::{Error, Split};
use milepost_suites::{Level, Template, bundled, seeds};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::field::Assignment;

/// Successes and episodes of a template.
pub type Counts = BTreeMap<String, [usize; 2]>;

/// The trained templates of these levels; of those that are named, where some are.
///
/// # Errors
/// A level or a template that there is none of.
pub fn templates(levels: &[String], named: &[String]) -> Result<Vec<&'static Template>> {
    let levels = levels.iter().map(|level| level.parse::<Level>()).collect::<Result<Vec<_>, Error>>()?;
    let of_levels = || bundled().iter().filter(|template| !template.held_out && levels.contains(&template.level));
    if of_levels().next().is_none() {
        bail!(Error::BadInput("improve.levels names no level; use easy, medium or long".into()));
    }
    if let Some(unknown) = named.iter().find(|name| of_levels().all(|template| template.id != **name)) {
        let known: Vec<&str> = of_levels().map(|template| template.id).collect();
        bail!(Error::BadInput(format!(
            "improve.templates: the levels have no trained template {unknown}; use some of {}",
            known.join(", ")
        )));
    }
    Ok(of_levels().filter(|template| named.is_empty() || named.iter().any(|name| name == template.id)).collect())
}

/// Training tasks of a round, each as a group of episodes with other sampling. Templates that succeed sometimes teach most: a template
/// is drawn with weight `p (1 - p)` of what is known of it, and never with less than a twentieth.
pub fn training(templates: &[&'static Template], known: &Counts, tasks: usize, group: usize, seed: u64) -> Vec<Assignment> {
    let mut rng = StdRng::seed_from_u64(seed);
    let weight = |template: &&'static Template| {
        let [solved, played] = known.get(template.id).copied().unwrap_or_default();
        // One success and one failure are taken for granted, so that nothing is known for sure.
        let p = (solved + 1) as f64 / (played + 2) as f64;
        (p * (1.0 - p)).max(0.05)
    };
    let mut assignments = Vec::with_capacity(tasks * group);
    for task in 0..tasks {
        let template = match known.is_empty() {
            // Nothing is known yet: all in turn.
            true => Some(&templates[task % templates.len()]),
            false => templates.choose_weighted(&mut rng, weight).ok(),
        };
        let task_seed = rng.random_range(seeds(Split::Train));
        for _ in 0..group {
            let sampling = rng.random();
            assignments.extend(template.map(|template| Assignment { template, seed: task_seed, sampling }));
        }
    }
    assignments
}

/// Training tasks of a MiRA round: other seeds of the templates whose failures are within reach of the value critic, harder templates in the
/// place of solved ones (WebRL, 2411.02337, section 2.2), and where that is too few, tasks as [`training`] draws them.
///
/// # Errors
/// What [`next_phase`] refuses.
pub fn phased(
    templates: &[&'static Template],
    config: &PhaseConfig,
    past: &Past,
    tasks: usize,
    group: usize,
    seed: u64,
) -> Result<Vec<Assignment>> {
    let rung = |template: &&'static Template| Rung {
        template: template.id.to_owned(),
        family: format!("{:?}", template.site),
        level: template.level as usize,
    };
    let ladder: Vec<Rung> = templates.iter().map(rung).collect();
    let train = seeds(Split::Train);
    let variants = |template: &str, count: usize| {
        let place = templates.iter().position(|known| known.id == template).unwrap_or_default() as u64;
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(place));
        (0..count).map(|_| rng.random_range(train.clone())).collect()
    };
    let phase = next_phase(config, Draw { tasks, train_seeds: train.end, seed }, past, &ladder, variants)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut assignments = Vec::with_capacity(tasks * group);
    for TaskKey { template, seed } in &phase.tasks {
        if let Some(template) = templates.iter().find(|known| known.id == template) {
            assignments.extend((0..group).map(|_| Assignment { template, seed: *seed, sampling: rng.random() }));
        }
    }
    let known: Counts = past.tallies.iter().map(|(id, tally)| (id.clone(), [tally.solved, tally.episodes])).collect();
    assignments.extend(training(templates, &known, tasks.saturating_sub(phase.tasks.len()), group, rng.random()));
    Ok(assignments)
}

/// So many tasks of a split from the `first` on, over all templates in turn; the sampling's seed is the task's.
pub fn measuring(templates: &[&'static Template], split: Split, first: usize, count: usize) -> Vec<Assignment> {
    let range = seeds(split);
    let span = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    // Once each template has gone through the seeds that it meets so, it goes on with the next.
    let period = (span / gcd(span, templates.len())).saturating_mul(templates.len());
    let one = |index: usize| {
        let seed = range.start + ((index + index / period) % span) as u64;
        Assignment { template: templates[index % templates.len()], seed, sampling: seed }
    };
    (first..first + count).map(one).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use milepost_learners::phases::Valued;
    use milepost_suites::split_of;

    use super::*;

    #[test]
    fn training_draws_training_seeds_in_groups_and_prefers_what_succeeds_sometimes() {
        let templates = templates(&["medium".into()], &[]).unwrap();
        let known: Counts = templates.iter().map(|t| (t.id.to_owned(), [0, 40])).collect();
        let mut uncertain = known.clone();
        uncertain.insert(templates[3].id.into(), [20, 40]);
        let drawn = training(&templates, &uncertain, 200, 2, 1);
        assert!(drawn.iter().all(|a| split_of(a.seed) == Split::Train && !a.template.held_out));
        assert!(drawn.chunks(2).all(|group| group[0].seed == group[1].seed && group[0].sampling != group[1].sampling));
        let share = drawn.iter().filter(|a| a.template.id == templates[3].id).count() as f64 / drawn.len() as f64;
        assert!(share > 1.5 / templates.len() as f64, "{share}");
        assert_eq!(drawn.len(), training(&templates, &uncertain, 200, 2, 1).len());
    }

    #[test]
    fn a_phase_is_made_of_failures_within_reach_and_filled_up() {
        let templates = templates(&["medium".into(), "long".into()], &[]).unwrap();
        let (near, far) = (templates[0].id, templates[1].id);
        let failed = |template: &str, value| Valued { task: TaskKey { template: template.into(), seed: 3 }, value };
        let past = Past { failed: vec![failed(near, 0.4), failed(far, 0.01)], ..Past::default() };
        let config = PhaseConfig::default();
        let drawn = phased(&templates, &config, &past, 6, 2, 1).unwrap();
        assert!(drawn.len() == 12 && drawn.iter().all(|a| a.template.id == near && a.seed != 3 && split_of(a.seed) == Split::Train));
        assert!(drawn.chunks(2).all(|group| group[0].seed == group[1].seed && group[0].sampling != group[1].sampling));
        let each: Vec<Valued> = templates.iter().map(|template| failed(template.id, 0.4)).collect();
        let past = Past { failed: each, ..Past::default() };
        assert_eq!(phased(&templates, &config, &past, 2 * templates.len(), 1, u64::MAX).unwrap().len(), 2 * templates.len());
        let nothing = phased(&templates, &config, &Past::default(), 6, 2, 1).unwrap();
        assert_eq!(nothing.len(), 12, "without failures the tasks are drawn as in a first round");
    }

    #[test]
    fn measuring_goes_through_all_templates_on_seeds_of_its_split() {
        let templates = templates(&["medium".into(), "long".into()], &[]).unwrap();
        let drawn = measuring(&templates, Split::Validation, 990, 30);
        assert!(drawn.iter().all(|a| split_of(a.seed) == Split::Validation));
        let ids: std::collections::BTreeSet<_> = drawn.iter().map(|a| a.template.id).collect();
        assert_eq!(ids.len(), templates.len());
        // All seeds of all templates, once each, before one comes again.
        let all = measuring(&templates[..4], Split::Validation, 0, 4000);
        assert_eq!(all.iter().map(|a| (a.template.id, a.seed)).collect::<std::collections::BTreeSet<_>>().len(), 4000);
        assert!(super::templates(&["huge".into()], &[]).is_err() && super::templates(&[], &[]).is_err());
        let named = |name: &str| super::templates(&["medium".into(), "long".into()], &[name.into()]);
        assert_eq!(named("desk_triage").unwrap().iter().map(|template| template.id).collect::<Vec<_>>(), ["desk_triage"]);
        assert!(named("shop_reviews").unwrap_err().to_string().contains("desk_triage"), "a held-out template cannot be trained on");
    }
}
