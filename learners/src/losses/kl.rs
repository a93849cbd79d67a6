//! Distances of the policy from a reference policy: the KL divergence by the k3 estimator, and the total variation.

use super::k3::k3;
use super::{Loss, LossConfig, Sample, check_lists, check_samples, trained_positions};
use crate::{Error, Result};

/// Computes `kl_weight` times the KL divergence, normalised like the loss and without sampler corrections (TRL 1.16, `_compute_loss`).
///
/// # Errors
/// The configuration is invalid, or the lists do not match the samples.
pub fn kl_loss(config: &LossConfig, samples: &[Sample], reference: &[Vec<f32>]) -> Result<Loss> {
    config.check()?;
    check(samples, reference)?;
    let mut loss = Loss::zero(samples.iter().map(|s| &s.mask));
    for (i, share) in config.token_weights(samples).into_iter().enumerate() {
        for t in trained_positions(&samples[i].mask) {
            let (value, slope) = k3(f64::from(samples[i].logprobs[t]), f64::from(reference[i][t]), config.kl_cap);
            let weight = config.kl_weight * share;
            loss.value += weight * value;
            loss.derivatives[i][t] = (weight * slope) as f32;
        }
    }
    Ok(loss)
}

/// Computes the mean KL divergence of the trained tokens by [`k3`], in nats and without a cap; 0 if there are no trained tokens.
///
/// # Errors
/// The lists do not match the samples.
pub fn mean_kl(samples: &[Sample], reference: &[Vec<f32>]) -> Result<f64> {
    check(samples, reference)?;
    let (mut sum, mut count) = (0.0, 0usize);
    for (sample, reference) in samples.iter().zip(reference) {
        for t in trained_positions(&sample.mask) {
            sum += k3(f64::from(sample.logprobs[t]), f64::from(reference[t]), None).0;
            count += 1;
        }
    }
    Ok(sum / count.max(1) as f64)
}

/// Computes the share of the reference's probability that the policy has moved to other tokens, 0 to 1: the mean over trained tokens of
/// `max(0, 1 - ρ)`. For tokens sampled from the reference this estimates the total variation distance. Unlike a KL divergence it is
/// bounded, so that one token that was rightly learned or unlearned does not outweigh a thousand others.
///
/// # Errors
/// The lists do not match the samples.
pub fn total_variation(samples: &[Sample], reference: &[Vec<f32>]) -> Result<f64> {
    check(samples, reference)?;
    let (mut sum, mut count) = (0.0, 0usize);
    for (sample, reference) in samples.iter().zip(reference) {
        for t in trained_positions(&sample.mask) {
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
    fn the_share_that_was_moved_is_the_total_variation() {
        let moved_by = |ratio: f64| {
            let sample = sample(&[ratio], 1.0);
            let reference = vec![sample.old_logprobs.clone()];
            total_variation(&[sample], &reference).unwrap()
        };
        assert_eq!((moved_by(1.0), moved_by(50.0)), (0.0, 0.0));
        assert!((moved_by((-20.0f64).exp()) - 1.0).abs() < 1e-6);
        // The reference gives two tokens 1/4 and 3/4, the policy 1/2 each: a quarter of the probability has moved.
        let expected = 0.25 * moved_by(2.0) + 0.75 * moved_by(2.0 / 3.0);
        assert!((expected - 0.25).abs() < 1e-6, "{expected}");
    }

    #[test]
    fn the_reference_must_have_the_lengths_of_the_samples() {
        let samples = [sample(&[1.0, 1.0], 1.0)];
        let config = LossConfig { kl_weight: 0.1, ..Default::default() };
        assert!(kl_loss(&config, &samples, &[]).is_err());
        assert!(kl_loss(&config, &samples, &[vec![-1.0]]).unwrap_err().to_string().contains("1 reference log-probabilities for 2"));
        assert!(mean_kl(&samples, &[vec![-2.0, -2.0]]).unwrap().abs() < 1e-12);
    }
}
