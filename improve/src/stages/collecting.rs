//! Collecting: training tasks are played in groups, and each episode is rewarded when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use milepost_learners::rewards::{self, Reward, compose, ended_externally, per_step};
use milepost_runtime::{Episode, Stop};

use super::collected::{COLLECTED, Collected, open_lines, read_lines};
use super::{Outcome, SuiteStages, UPDATE};
use crate::config::{Recipe, TrainingPhase};
use crate::error::{Error, Result, ResultExt};
use crate::host::{Assignment, LoadedModel, Played};
use crate::phases::{PhaseResults, Tally, TaskKey, ValuedTask};
use crate::rounds::Failure;
use crate::tasks::{Counts, phased, training};
use crate::update;

impl SuiteStages<'_> {
    /// Plays the round's training tasks; returns the number of episodes that may be trained on, and the number of solved ones among them.
    pub(super) async fn collect_episodes(&self, actor: &dyn LoadedModel, round: usize, directory: &Path) -> Outcome<(usize, usize)> {
        let config = self.config();
        let all = self.draw_tasks(round)?;
        let done: BTreeMap<usize, Collected> = read_lines(directory)?.into_iter().map(|one| (one.index, one)).collect();
        let path = directory.join(COLLECTED);
        let file = Mutex::new(open_lines(&path)?);
        let (phase, last_failure) = (self.phase(round)?, Mutex::new(String::new()));
        let play = async |left: Vec<usize>, temperature: f32| {
            let assignments: Vec<Assignment> = left.iter().map(|index| all[*index].clone()).collect();
            let on_end = |at: usize, played: &Played| {
                let stop = played.episode.stop.as_ref();
                if ended_externally(stop) {
                    let reason = stop.and_then(Stop::reason).unwrap_or_default().to_owned();
                    *last_failure.lock().unwrap_or_else(PoisonError::into_inner) = reason;
                    return Ok(());
                }
                let one = reward(left[at], &assignments[at], played, &phase);
                // The line is written with its end in one piece, so that a kill cannot leave a complete line without its end.
                let line = serde_json::to_string(&one)? + "\n";
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))
            };
            let ended = self.play(actor, temperature, phase.given_plans, &assignments, &on_end).await?;
            let lost = ended.iter().filter(|one| one.ended_externally).count();
            if lost > 0 {
                tracing::warn!(lost, of = ended.len(), "left out: the environment ended these episodes twice");
            }
            Ok::<_, Error>(())
        };
        let mut left: Vec<usize> = (0..all.len()).filter(|index| !done.contains_key(index)).collect();
        if config.greedy_first {
            // The first episode of each group is greedy; if it solves the task, the others would add nothing.
            play(left.iter().copied().filter(|index| index % config.group == 0).collect(), 0.0).await?;
            let first_solved = |one: &Collected| one.index.is_multiple_of(config.group) && one.solved;
            let solved: BTreeSet<usize> = read_lines(directory)?.into_iter().filter(first_solved).map(|one| one.index).collect();
            left.retain(|index| index % config.group != 0 && !solved.contains(&(index - index % config.group)));
        }
        play(left, config.temperature).await?;
        let collected = self.trainable(round, None).await?;
        let last_failure = last_failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        if collected.is_empty() && !last_failure.is_empty() {
            return Err(Failure::Run(Error::Failed(format!("no training episode could be played: {last_failure}"))));
        }
        Ok((collected.len(), collected.iter().filter(|one| one.solved).count()))
    }

    /// Draws the round's tasks: for MiRA by the failures of the last round, for all other recipes by the known success rates of the templates.
    fn draw_tasks(&self, round: usize) -> Result<Vec<Assignment>> {
        let config = self.config();
        let seed = config.seed.wrapping_mul(1_000_003).wrapping_add(round as u64);
        match config.recipe {
            Recipe::Mira if round > 1 => {
                phased(&self.templates, &config.phases, &self.phase_results(round)?, config.tasks, config.group, seed)
            }
            _ => Ok(training(&self.templates, &self.template_counts(1..round)?, config.tasks, config.group, seed)),
        }
    }

    /// Counts successes and episodes of each template in these rounds of this run.
    fn template_counts(&self, rounds: std::ops::Range<usize>) -> Result<Counts> {
        let mut counts = Counts::new();
        for earlier in rounds {
            for one in read_lines(&self.round_directory(earlier))? {
                let count = counts.entry(one.template).or_default();
                *count = [count[0] + usize::from(one.solved), count[1] + 1];
            }
        }
        Ok(counts)
    }

    /// Returns the failures of the last round with the values that its critic gave them, or none if that round was not trained on. The tally of a
    /// template is that of the last round that played it, so that early failures do not hide that it is solved now.
    fn phase_results(&self, round: usize) -> Result<PhaseResults> {
        let last = self.round_directory(round - 1);
        let critics = update::report(&last.join(UPDATE)).ok().and_then(|report| report.critics);
        let values = critics.map(|critics| critics.tasks).unwrap_or_default();
        let failed: BTreeSet<String> = read_lines(&last)?.into_iter().filter(|one| !one.solved).map(|one| one.group).collect();
        let valued = |group: String| {
            let (template, seed) = group.rsplit_once(' ')?;
            let task = TaskKey { template: template.to_owned(), seed: seed.parse().ok()? };
            Some(ValuedTask { task, value: values.get(&group).copied()? })
        };
        let mut tallies = BTreeMap::new();
        for earlier in 1..round {
            let known = self.template_counts(earlier..earlier + 1)?;
            tallies.extend(known.into_iter().map(|(id, [solved, episodes])| (id, Tally { episodes, solved })));
        }
        Ok(PhaseResults { failed: failed.into_iter().filter_map(valued).collect(), tallies })
    }
}

/// Rewards an episode that has ended.
fn reward(index: usize, assignment: &Assignment, played: &Played, phase: &TrainingPhase) -> Collected {
    let reward = compose(&played.episode, &played.verdicts, &phase.rewards);
    let (rewards, whole) = step_rewards(&reward, &played.episode);
    let (template, group) = (assignment.template.id.clone(), assignment.task());
    let progress = progress(played);
    let id = played.episode.id.clone();
    Collected { index, id, template, group, solved: played.solved, progress, rewards, whole, terms: reward.terms }
}

/// Divides an episode's reward into the rewards of its steps and that of the whole episode; returns no steps if a reward is missing.
pub(super) fn step_rewards(reward: &Reward, episode: &Episode) -> (Vec<f64>, f64) {
    match reward.total() {
        Some(_) => per_step(&reward.terms, episode.steps.len().max(1)),
        None => Default::default(),
    }
}

/// Returns the fraction of a played task that was done in each state, by the suite's reference milestones; empty if that is unknown.
fn progress(played: &Played) -> Vec<f64> {
    let milestones = played.verdicts.milestones.as_ref();
    milestones.and_then(|milestones| rewards::progress(milestones, played.episode.steps.len(), played.solved)).unwrap_or_default()
}
