//! Progress labels, the targets of the potential critic.

use crate::{Error, Result};

/// Returns the progress labels of the states `0..=steps` of an episode in which the `j`-th of `milestones` milestones was reached at state
/// `reached[j - 1]` (MiRA, 2603.19685, interpolated progress).
///
/// Between two milestones progress is interpolated linearly. In a successful episode the last milestone counts as reached at the last state ("gap
/// anchoring"), whichever milestones were verified by then. The paper does not define two cases: if several milestones were reached at one state,
/// progress jumps to the highest of them, and after the last milestone of a failed episode progress is constant.
///
/// # Errors
/// There are no milestones, more were reached than there are, or they were reached out of order or after the last state.
pub fn progress_labels(reached: &[usize], milestones: usize, steps: usize, success: bool) -> Result<Vec<f64>> {
    check(reached, milestones, steps)?;
    let share = |j: usize| j as f64 / milestones as f64;
    let mut knots = vec![(0, 0.0)];
    let anchored = if success { reached.len().min(milestones - 1) } else { reached.len() };
    knots.extend(reached[..anchored].iter().enumerate().map(|(j, at)| (*at, share(j + 1))));
    if success {
        knots.push((steps, 1.0));
    }
    let label = |t: usize| {
        let before = knots.partition_point(|(at, _)| *at <= t) - 1;
        let (from, low) = knots[before];
        match knots.get(before + 1) {
            Some((to, high)) => low + (high - low) * (t - from) as f64 / (to - from) as f64,
            None => low,
        }
    };
    Ok((0..=steps).map(label).collect())
}

/// Checks the arguments of [`progress_labels`].
fn check(reached: &[usize], milestones: usize, steps: usize) -> Result<()> {
    let problem = if milestones == 0 {
        "an episode without milestones has no progress to label".into()
    } else if reached.len() > milestones {
        format!("it reached {} of {milestones} milestones", reached.len())
    } else if !reached.is_sorted() {
        format!("its milestones were reached out of order: {reached:?}")
    } else if reached.last().is_some_and(|last| *last > steps) {
        format!("a milestone was reached at {:?}, behind its last state {steps}", reached.last())
    } else {
        return Ok(());
    };
    Err(Error::Batch { index: 0, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_labels(reached: &[usize], milestones: usize, steps: usize, success: bool, want: &[f64]) {
        let got = progress_labels(reached, milestones, steps, success).unwrap();
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 5e-5), "{got:?} is not {want:?}");
    }

    /// The labels were computed by hand from MiRA's definition (2603.19685).
    #[test]
    fn the_worked_vector() {
        let want = [0.0, 0.1667, 0.3333, 0.5, 0.6667, 0.7333, 0.8, 0.8667, 0.9333, 1.0];
        check_labels(&[2, 4], 3, 9, true, &want);
        check_labels(&[2, 4, 6], 3, 9, true, &want);
    }

    #[test]
    fn ties_jump_and_failures_stay() {
        let third = 1.0 / 3.0;
        check_labels(&[2, 2], 3, 4, true, &[0.0, third / 2.0, 2.0 * third, 2.5 * third, 1.0]);
        check_labels(&[0], 2, 2, true, &[0.5, 0.75, 1.0]);
        check_labels(&[2], 3, 4, false, &[0.0, third / 2.0, third, third, third]);
        check_labels(&[], 3, 2, false, &[0.0; 3]);
        check_labels(&[], 4, 4, true, &[0.0, 0.25, 0.5, 0.75, 1.0]);
        check_labels(&[4], 2, 4, true, &[0.0, 0.125, 0.25, 0.375, 1.0]);
        check_labels(&[], 1, 0, true, &[1.0]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (reached, milestones) in [(&[][..], 0), (&[1, 2], 1), (&[3, 2], 3), (&[5], 3)] {
            assert!(progress_labels(reached, milestones, 4, true).is_err(), "{reached:?} of {milestones}");
        }
    }
}
