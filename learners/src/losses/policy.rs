//! Policy-gradient losses: clipped ratios per token (PPO) or per sequence (GSPO), and CISPO.

use super::{LOG_RATIO_LIMIT, Loss, LossConfig, Objective, Sample, check_samples, trained_positions};
use crate::Result;

/// A loss term and its derivative in the log-ratio, which equals the derivative in the new log-probability.
struct Term {
    value: f64,
    slope: f64,
}

/// Computes the policy loss of a batch and its derivatives, without the KL term of [`super::kl_loss`] (see the papers of [`Objective`] and
/// [`super::Normalisation`]; the factors are applied in the order of TRL 1.16, `_compute_loss`).
///
/// # Errors
/// The configuration or a sample is invalid.
pub fn policy_loss(config: &LossConfig, samples: &[Sample]) -> Result<Loss> {
    config.check()?;
    check_samples(samples)?;
    let mut loss = Loss::zero(samples.iter().map(|s| &s.mask));
    for ((sample, share), derivatives) in samples.iter().zip(config.token_weights(samples)).zip(&mut loss.derivatives) {
        loss.value += match config.objective {
            Objective::Gspo => sequence_level(config, sample, share, derivatives),
            Objective::Clipped | Objective::Cispo => token_level(config, sample, share, derivatives),
        };
    }
    Ok(loss)
}

/// Computes the fraction of trained tokens (for GSPO of sequences) whose ratio lies beyond the clip range in the direction of their
/// advantage (TRL's `clip_ratio/region_mean`); 0 if there are no trained tokens.
///
/// # Errors
/// The configuration or a sample is invalid.
pub fn clip_fraction(config: &LossConfig, samples: &[Sample]) -> Result<f64> {
    config.check()?;
    check_samples(samples)?;
    let (mut clipped, mut all) = (0usize, 0usize);
    for sample in samples {
        let mean = mean_log_ratio(sample);
        let mut tokens = trained_positions(&sample.mask).map(|t| {
            let log_ratio = if config.objective == Objective::Gspo { mean } else { log_ratio(sample, t) };
            is_clipped(config, log_ratio.exp(), f64::from(sample.advantages[t]))
        });
        if config.objective == Objective::Gspo {
            all += usize::from(sample.mask.contains(&true));
            clipped += usize::from(tokens.any(|is_clipped| is_clipped));
        } else {
            let flags: Vec<bool> = tokens.collect();
            all += flags.len();
            clipped += flags.iter().filter(|is_clipped| **is_clipped).count();
        }
    }
    Ok(clipped as f64 / all.max(1) as f64)
}

fn is_clipped(config: &LossConfig, ratio: f64, advantage: f64) -> bool {
    match config.objective {
        Objective::Cispo => ratio > config.cispo_max_ratio && advantage > 0.0,
        Objective::Clipped | Objective::Gspo => {
            (ratio < 1.0 - config.eps_low && advantage < 0.0) || (ratio > 1.0 + config.eps_high && advantage > 0.0)
        }
    }
}

fn log_ratio(sample: &Sample, t: usize) -> f64 {
    f64::from(sample.logprobs[t]) - f64::from(sample.old_logprobs[t])
}

/// Computes the logarithm of the sequence's geometric mean ratio over its trained tokens; 0 if there are none.
fn mean_log_ratio(sample: &Sample) -> f64 {
    let tokens = trained_positions(&sample.mask);
    let count = tokens.clone().count().max(1) as f64;
    tokens.map(|t| log_ratio(sample, t)).sum::<f64>() / count
}

fn token_level(config: &LossConfig, sample: &Sample, share: f64, derivatives: &mut [f32]) -> f64 {
    let mut value = 0.0;
    for t in trained_positions(&sample.mask) {
        let advantage = f64::from(sample.advantages[t]);
        let term = match config.objective {
            Objective::Cispo => cispo(config, log_ratio(sample, t), f64::from(sample.logprobs[t]), advantage),
            _ => clipped(config, log_ratio(sample, t), advantage),
        };
        let weight = share * f64::from(sample.weights[t]);
        value += weight * term.value;
        derivatives[t] = (weight * term.slope) as f32;
    }
    value
}

fn sequence_level(config: &LossConfig, sample: &Sample, share: f64, derivatives: &mut [f32]) -> f64 {
    let tokens = trained_positions(&sample.mask);
    let log_ratio = mean_log_ratio(sample);
    let (mut value, mut slope) = (0.0, 0.0);
    for t in tokens.clone() {
        let term = clipped(config, log_ratio, f64::from(sample.advantages[t]));
        let weight = share * f64::from(sample.weights[t]);
        value += weight * term.value;
        slope += weight * term.slope;
    }
    // Every trained token has the same derivative in the mean.
    let each = slope / tokens.clone().count().max(1) as f64;
    for t in tokens {
        derivatives[t] = each as f32;
    }
    value
}

/// Computes `-min(ρ A, clip(ρ, 1 - eps_low, 1 + eps_high) A)`, bounded by `-dual_clip A` for negative `A`.
fn clipped(config: &LossConfig, log_ratio: f64, advantage: f64) -> Term {
    let ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp();
    let free = -ratio * advantage;
    let bound = -ratio.clamp(1.0 - config.eps_low, 1.0 + config.eps_high) * advantage;
    let cap = match config.dual_clip {
        Some(c) if advantage < 0.0 => -c * advantage,
        _ => f64::INFINITY,
    };
    let value = free.max(bound).min(cap);
    let moves = value == free && log_ratio.abs() < LOG_RATIO_LIMIT;
    Term { value, slope: if moves { free } else { 0.0 } }
}

/// Computes `-sg(min(ρ, max)) A logprob`, where `sg` stops the gradient.
fn cispo(config: &LossConfig, log_ratio: f64, logprob: f64, advantage: f64) -> Term {
    let ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp();
    let slope = -ratio.min(config.cispo_max_ratio) * advantage;
    Term { value: slope * logprob, slope }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::Normalisation;
    use crate::losses::tests::sample;

    fn config(objective: Objective, normalisation: Normalisation) -> LossConfig {
        LossConfig { objective, normalisation, max_tokens: 10, ..Default::default() }
    }

    /// Checks the loss of one token and its derivative.
    fn check_token(config: &LossConfig, ratio: f64, advantage: f32, value: f64, slope: f64) {
        let loss = policy_loss(config, &[sample(&[ratio], advantage)]).unwrap();
        assert!((loss.value - value).abs() < 1e-6, "ratio {ratio}, advantage {advantage}: {loss:?}, not {value}");
        assert!((f64::from(loss.derivatives[0][0]) - slope).abs() < 1e-6, "ratio {ratio}, advantage {advantage}: {loss:?}, not {slope}");
    }

    #[test]
    fn a_ratio_is_clipped_only_in_the_direction_of_the_advantage() {
        let config = LossConfig::default();
        check_token(&config, 1.1, 2.0, -2.2, -2.2);
        check_token(&config, 1.5, 2.0, -2.56, 0.0);
        check_token(&config, 0.5, 2.0, -1.0, -1.0);
        check_token(&config, 0.5, -2.0, 1.6, 0.0);
        check_token(&config, 1.5, -2.0, 3.0, 3.0);
        check_token(&config, 4.0, -2.0, 6.0, 0.0);
        check_token(&LossConfig { dual_clip: None, ..config }, 4.0, -2.0, 8.0, 8.0);
    }

    #[test]
    fn each_normalisation_divides_by_its_denominator() {
        // Every token has a loss of -1; the first sequence has two tokens, the second four.
        let batch = [sample(&[1.0; 2], 1.0), sample(&[1.0; 4], 1.0)];
        for (normalisation, value, first, second) in [
            (Normalisation::Grpo, -1.0, -0.25, -0.125),
            (Normalisation::Dapo, -1.0, -1.0 / 6.0, -1.0 / 6.0),
            (Normalisation::DrGrpo, -0.3, -0.05, -0.05),
        ] {
            let loss = policy_loss(&config(Objective::Clipped, normalisation), &batch).unwrap();
            assert!((loss.value - value).abs() < 1e-9, "{normalisation:?}: {loss:?}");
            assert_eq!((loss.derivatives[0][1], loss.derivatives[1][3]), (first, second), "{normalisation:?}");
        }
    }

    #[test]
    fn gspo_spreads_the_derivative_of_the_geometric_mean() {
        let loss = policy_loss(&config(Objective::Gspo, Normalisation::Grpo), &[sample(&[1.2, 1.0 / 1.2, 1.1, 1.1], 1.0)]).unwrap();
        let ratio = 1.1_f64.sqrt();
        assert!((loss.value + ratio).abs() < 1e-6, "{loss:?}");
        assert!(loss.derivatives[0].iter().all(|d| (f64::from(*d) + ratio / 4.0).abs() < 1e-6), "{loss:?}");
    }

    #[test]
    fn with_cispo_every_token_keeps_a_gradient() {
        let config = config(Objective::Cispo, Normalisation::Dapo);
        check_token(&config, 2.0, 1.0, -2.0 * (2.0_f64.ln() - 2.0), -2.0);
        check_token(&config, 6.0, 1.0, -5.0 * (6.0_f64.ln() - 2.0), -5.0);
        check_token(&config, 6.0, -1.0, 5.0 * (6.0_f64.ln() - 2.0), 5.0);
    }

    #[test]
    fn corrections_weigh_the_loss_and_not_its_denominator() {
        let mut s = sample(&[1.0, 1.0], 1.0);
        s.weights = vec![2.0, 0.0];
        let loss = policy_loss(&LossConfig::default(), &[s]).unwrap();
        assert_eq!((loss.value, &loss.derivatives[0][..]), (-1.0, &[-1.0, 0.0][..]));
    }

    #[test]
    fn the_loss_of_an_extreme_ratio_is_finite() {
        let mut s = sample(&[1.0], -1.0);
        s.logprobs[0] = 500.0;
        let config = LossConfig { dual_clip: None, ..Default::default() };
        let loss = policy_loss(&config, &[s]).unwrap();
        assert!(loss.value.is_finite() && loss.derivatives[0][0] == 0.0, "{loss:?}");
    }

    #[test]
    fn clipped_tokens_and_sequences_are_counted() {
        let batch = [sample(&[1.5, 1.0, 0.5, 1.5], 1.0), sample(&[0.5, 0.5], -1.0)];
        let fraction = |objective| clip_fraction(&config(objective, Normalisation::Dapo), &batch).unwrap();
        assert_eq!(fraction(Objective::Clipped), 4.0 / 6.0);
        assert_eq!(fraction(Objective::Gspo), 0.5);
        assert_eq!(fraction(Objective::Cispo), 0.0);
    }
}
