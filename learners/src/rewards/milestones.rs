//! Rewards for reached milestones. Milestones that the acting policy wrote itself do not count, because it could write trivial ones.

use milepost_runtime::{Episode, MilestoneSource, MilestonesReached, Verdicts};

use super::config::Shaping;
use crate::critic::progress_labels;

/// Returns the milestones that may be rewarded: reference milestones, or those of a generation other than the acting one.
pub(super) fn rewarded<'v>(verdicts: &'v Verdicts, episode: &Episode) -> Option<&'v MilestonesReached> {
    verdicts.milestones.as_ref().filter(|milestones| match &milestones.source {
        MilestoneSource::Reference => milestones.count > 0,
        MilestoneSource::Frozen { generation } => milestones.count > 0 && *generation != episode.generation,
    })
}

/// Returns the share of the milestones that were reached.
pub(super) fn share(milestones: &MilestonesReached) -> f64 {
    turns(milestones).len() as f64 / milestones.count as f64
}

/// Returns, in ascending order, the turn at which each reached milestone was first reached.
fn turns(milestones: &MilestonesReached) -> Vec<u32> {
    let first = |milestone| milestones.reached.iter().filter(|reached| reached.milestone == milestone).map(|reached| reached.turn).min();
    let mut turns: Vec<u32> = (0..milestones.count).filter_map(first).collect();
    turns.sort_unstable();
    turns
}

/// Computes the progress in each of the `steps + 1` states of an episode, 0 to 1 (MiRA, 2603.19685, progress labels); `None` if the
/// milestones do not fit the number of steps.
pub fn progress(milestones: &MilestonesReached, steps: usize, success: bool) -> Option<Vec<f64>> {
    let reached: Vec<usize> = turns(milestones).into_iter().map(|turn| turn as usize).collect();
    progress_labels(&reached, milestones.count, steps, success).ok()
}

/// Returns the potential of each state: the critic's estimate if there is one, otherwise the progress by milestones.
pub(super) fn potential(episode: &Episode, verdicts: &Verdicts) -> Option<Vec<f64>> {
    let steps = episode.steps.len();
    match &verdicts.potential {
        Some(potential) => (potential.len() == steps + 1).then(|| potential.clone()),
        None => {
            let milestones = rewarded(verdicts, episode)?;
            progress(milestones, steps, episode.success?)
        }
    }
}

/// Computes the shaping of each step from the potentials of the states, in the given form.
pub(super) fn differences(potential: &[f64], shaping: Shaping) -> Vec<f64> {
    let last = potential.len().saturating_sub(2);
    let step = |(at, pair): (usize, &[f64])| match shaping {
        Shaping::Difference => pair[1] - pair[0],
        Shaping::Invariant { gamma } => (if at == last { 0.0 } else { gamma * pair[1] }) - pair[0],
    };
    potential.windows(2).enumerate().map(step).collect()
}
