//! The proof that a served model is the one that was trained, by its log-probabilities on the probes of an adapter.

use milepost_runtime::{Error, Probes, Result};

/// Makes the error that a model is not proved.
fn unproved(message: impl std::fmt::Display) -> Error {
    Error::Unproved(message.to_string())
}

/// How closely served and trained log-probabilities must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// Both sides compute in F32: the largest difference is at most 1e-4.
    Exact,
    /// The base is quantised or in 16 bits: the direction of the change must survive (cosine ≥ 0.9, mean difference ≤ 0.02).
    Rounded,
}

/// The largest difference in nats that F32 arithmetic in another order can cause. A real adapter must cause a larger one.
const MAX_ROUNDING: f32 = 1e-4;
/// The minimum cosine of the served and the trained change, with a rounded base.
const MIN_COSINE: f64 = 0.9;
/// The maximum mean difference in nats, with a rounded base.
const MAX_MEAN_DIFFERENCE: f64 = 0.02;

/// Compares the served log-probabilities with those that the trainer expects; the error says which condition failed and by how much.
///
/// `served` has one list per probe, one log-probability (nats) per completion token.
///
/// # Errors
/// There are no probes, the lists differ in length, or the model is not the trainer's.
pub fn check_probes(probes: &Probes, served: &[Vec<f32>], tolerance: Tolerance) -> Result<()> {
    let shape = |lists: &[Vec<f32>]| lists.iter().map(Vec::len).collect::<Vec<_>>();
    if probes.requests.is_empty() || shape(&probes.expected).iter().sum::<usize>() == 0 {
        return Err(unproved("the adapter has no probes, so it cannot be proved; export it with its probes.json"));
    }
    if shape(&probes.expected) != shape(served) || shape(&probes.parent) != shape(served) {
        return Err(unproved("the probes' lists do not match their completions in length; export the adapter again"));
    }
    let flat = |lists: &[Vec<f32>]| lists.iter().flatten().copied().collect::<Vec<f32>>();
    let (served, expected, parent) = (flat(served), flat(&probes.expected), flat(&probes.parent));
    if let Some(bad) = served.iter().position(|value| !value.is_finite()) {
        return Err(unproved(format!("the served model's log-probability at probe token {bad} is {}; the adapter is broken", served[bad])));
    }
    match tolerance {
        Tolerance::Exact => check_exact(&served, &expected, &parent),
        Tolerance::Rounded => check_rounded(&served, &expected, &parent),
    }
}

/// Checks the condition of [`Tolerance::Exact`].
fn check_exact(served: &[f32], expected: &[f32], parent: &[f32]) -> Result<(), Error> {
    let off = largest_difference(served, expected);
    if off.is_nan() || off > MAX_ROUNDING {
        return Err(unproved(format!(
            "the served model is not the trained one: log-probabilities differ by {off:.1e} (at most {MAX_ROUNDING:.0e} is allowed)"
        )));
    }
    let moved = largest_difference(served, parent);
    if moved.is_nan() || moved <= MAX_ROUNDING {
        return Err(unproved(format!(
            "the adapter changes nothing: no probe differs from the parent by more than {MAX_ROUNDING:.0e} (largest {moved:.1e})"
        )));
    }
    Ok(())
}

/// Checks the condition of [`Tolerance::Rounded`].
fn check_rounded(served: &[f32], expected: &[f32], parent: &[f32]) -> Result<(), Error> {
    let change = |values: &[f32]| values.iter().zip(parent).map(|(value, parent)| f64::from(value - parent)).collect::<Vec<_>>();
    let cosine = cosine(&change(served), &change(expected));
    let mean = served.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / served.len() as f64;
    if cosine >= MIN_COSINE && mean <= MAX_MEAN_DIFFERENCE {
        return Ok(());
    }
    Err(unproved(format!(
        "the adapter is lost in quantisation: cosine {cosine:.3} (at least {MIN_COSINE}), mean difference {mean:.4} (at most {MAX_MEAN_DIFFERENCE}); \
         serve the policy with `dtype: f32` and without `isq`"
    )))
}

/// Returns the largest absolute difference, or NaN if one is not a number.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |largest, value| if value.is_nan() { value } else { largest.max(value) })
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { dot(a, b) / norm } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_runtime::ScoreRequest;

    fn check(served: &[f32], expected: &[f32], parent: &[f32], tolerance: Tolerance, reason: Option<&str>) {
        let request = ScoreRequest { prompt_ids: vec![1], completion_ids: vec![2; expected.len()], grammar: None, temperature: 1.0 };
        let probes = Probes { requests: vec![request], expected: vec![expected.to_vec()], parent: vec![parent.to_vec()] };
        let result = check_probes(&probes, &[served.to_vec()], tolerance);
        match reason {
            None => result.unwrap(),
            Some(reason) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(reason), "{error}");
            }
        }
    }

    #[test]
    fn a_proof_needs_the_trained_model_and_a_changed_one() {
        check(&[-1.0, -2.0], &[-1.00005, -2.0], &[-1.1, -2.0], Tolerance::Exact, None);
        check(&[-1.0, -2.0], &[-1.001, -2.0], &[-1.1, -2.0], Tolerance::Exact, Some("not the trained one"));
        check(&[-1.0, -2.0], &[-1.0, -2.0], &[-1.0, -2.0], Tolerance::Exact, Some("changes nothing"));
        check(&[f32::NAN, -2.0], &[-1.0, -2.0], &[-1.1, -2.0], Tolerance::Exact, Some("is NaN"));
        check(&[-1.0], &[-1.0, -2.0], &[-1.0, -2.0], Tolerance::Exact, Some("in length"));
        check(&[], &[], &[], Tolerance::Exact, Some("no probes"));
    }

    #[test]
    fn a_rounded_base_must_keep_the_direction_of_the_change() {
        check(&[-1.01, -2.1], &[-1.0, -2.1], &[-1.1, -2.2], Tolerance::Rounded, None);
        check(&[-1.1, -2.21], &[-1.09, -2.2], &[-1.1, -2.2], Tolerance::Rounded, Some("lost in quantisation"));
        check(&[-1.1, -2.2], &[-1.09, -2.2], &[-1.1, -2.2], Tolerance::Rounded, Some("lost in quantisation"));
    }
}
