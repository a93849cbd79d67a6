//! The KL divergence from a reference policy, by the k3 estimator.

use super::{LOG_RATIO_LIMIT, Loss, LossConfig, Sample, check_lists, check_samples, trained};
use crate::{Error, Result};

/// The cap of [`k3`] where nobody asks for another (verl 0.9.1): one token, or one action, is not to outweigh a batch.
pub(super) const KL_CAP: f64 = 10.0;

/// `e^d - d - 1` with `d = reference - logprob`, and its derivative in `logprob` (k3: Schulman 2020, "Approximating KL Divergence").
///
/// Beyond `cap`, and where `d` is beyond ±20, the value stays put and the derivative is 0, as in verl 0.9.1.
pub fn k3(logprob: f64, reference: f64, cap: Option<f64>) -> (f64, f64) {
    let d = reference - logprob;
    let bounded = d.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT);
    let value = bounded.exp() - bounded - 1.0;
    match cap {
        Some(cap) if value > cap => (cap, 0.0),
        _ if d != bounded => (value, 0.0),
        _ => (value, 1.0 - bounded.exp()),
    }
}

/// `kl_weight` times the KL divergence under the loss's normalisation, which sampler corrections do not touch (TRL 1.16, `_compute_loss`).
pub fn kl_loss(config: &LossConfig, samples: &[Sample], reference: &[Vec<f32>]) -> Result<Loss> {
    config.check()?;
    check(samples, reference)?;
    let mut loss = Loss::zero(samples.iter().map(|s| &s.mask));
    for (i, share) in config.shares(samples).into_iter().enumerate() {
        for t in trained(&samples[i].mask) {
            let (value, slope) = k3(f64::from(samples[i].logprobs[t]), f64::from(reference[i][t]), config.kl_cap);
            let weight = config.kl_weight * share;
            loss.value += weight * value;
            loss.derivatives[i][t] = (weight * slope) as f32;
        }
    }
    Ok(loss)
}

/// The mean KL divergence of the trained tokens, in nats and without a cap; 0 for no tokens (k3, as above).
pub fn mean_kl(samples: &[Sample], reference: &[Vec<f32>]) -> Result<f64> {
    check(samples, reference)?;
    let (mut sum, mut count) = (0.0, 0usize);
    for (sample, reference) in samples.iter().zip(reference) {
        for t in trained(&sample.mask) {
            sum += k3(f64::from(sample.logprobs[t]), f64::from(reference[t]), None).0;
            count += 1;
        }
    }
    Ok(sum / count.max(1) as f64)
}

/// The share of the reference's probability that the policy has moved elsewhere, 0 to 1: the mean over trained tokens of `max(0, 1 - ρ)`, which on
/// tokens of the reference is the total variation distance. A divergence has no bound there: one token that was rightly learned or unlearned
/// outweighs a thousand.
pub fn moved(samples: &[Sample], reference: &[Vec<f32>]) -> Result<f64> {
    check(samples, reference)?;
    let (mut sum, mut count) = (0.0, 0usize);
    for (sample, reference) in samples.iter().zip(reference) {
        for t in trained(&sample.mask) {
            let log_ratio = f64::from(sample.logprobs[t]) - f64::from(reference[t]);
            sum += (1.0 - log_ratio.exp()).max(0.0);
            count += 1;
        }
    }
    Ok(sum / count.max(1) as f64)
}

fn check(samples: &[Sample], reference: &[Vec<f32>]) -> Result<()> {
    check_samples(samples)?;
    if samples.len() != reference.len() {
        let problem = format!("the batch has {} sequences, the reference {}", samples.len(), reference.len());
        return Err(Error::Batch { index: samples.len().min(reference.len()), problem });
    }
    check_lists(samples.len(), |i| (&samples[i].mask, vec![("reference log-probabilities", &reference[i])]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::tests::sample;

    #[test]
    fn k3_is_zero_and_flat_at_the_reference() {
        assert_eq!(k3(-1.5, -1.5, None), (0.0, 0.0));
        let (value, slope) = k3(-2.0, -1.0, None);
        let e = std::f64::consts::E;
        assert!((value - (e - 2.0)).abs() < 1e-12 && (slope - (1.0 - e)).abs() < 1e-12);
    }

    #[test]
    fn k3_stays_put_beyond_its_bounds() {
        assert_eq!(k3(-5.0, -1.0, Some(10.0)), (10.0, 0.0));
        assert!(k3(-5.0, -1.0, None).0 > 10.0);
        let (value, slope) = k3(-500.0, -1.0, None);
        assert!(value.is_finite() && slope == 0.0);
    }

    #[test]
    fn what_was_moved_is_the_total_variation() {
        let moved_by = |ratio: f64| {
            let sample = sample(&[ratio], 1.0);
            let reference = vec![sample.old_logprobs.clone()];
            moved(&[sample], &reference).unwrap()
        };
        assert_eq!((moved_by(1.0), moved_by(50.0)), (0.0, 0.0));
        assert!((moved_by((-20.0f64).exp()) - 1.0).abs() < 1e-6);
        // Two tokens of the reference with 1/4 and 3/4, the policy with 1/2 each: a quarter has moved.
        let expected = 0.25 * moved_by(2.0) + 0.75 * moved_by(2.0 / 3.0);
        assert!((expected - 0.25).abs() < 1e-6, "{expected}");
    }

    #[test]
    fn the_reference_has_to_line_up() {
        let samples = [sample(&[1.0, 1.0], 1.0)];
        let config = LossConfig { kl_weight: 0.1, ..Default::default() };
        assert!(kl_loss(&config, &samples, &[]).is_err());
        assert!(kl_loss(&config, &samples, &[vec![-1.0]]).unwrap_err().to_string().contains("1 reference log-probabilities for 2"));
        assert!(mean_kl(&samples, &[vec![-2.0, -2.0]]).unwrap().abs() < 1e-12);
    }
}
