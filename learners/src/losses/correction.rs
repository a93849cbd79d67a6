//! Corrections for a sampler whose log-probabilities differ from the trainer's: factors of the policy loss, without a gradient.
//!
//! If the old log-probabilities *are* the sampler's, the loss's ratio corrects for the difference already, and no factor should be used.

use serde::{Deserialize, Serialize};

use super::{LOG_RATIO_LIMIT, check_lists, trained_positions};
use crate::{Error, Result};

/// How the ratio `w` of the trainer's to the sampler's probability becomes a factor. A sequence's `w` is the product over its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Always 1.
    None,
    /// Truncated importance sampling (TIS): `w` of the token, clamped to the band.
    #[default]
    TokenTruncate,
    /// Truncated importance sampling (TIS): `w` of the sequence, clamped to the band. The product over a long sequence leaves any band.
    SequenceTruncate,
    /// Masked importance sampling (MIS): `w` of the token, or 0 outside the band; with the band [0.5, 2] it is IcePop.
    TokenMask,
    /// Masked importance sampling (MIS): `w` of the sequence, or 0 outside the band; TRL's default, with a maximum of 3.
    SequenceMask,
}

/// A range of ratios, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Band {
    /// The smallest ratio.
    pub min: f64,
    /// The largest ratio.
    pub max: f64,
}

impl Default for Band {
    /// Returns SkyRL's band of geometric means.
    fn default() -> Self {
        Self { min: 0.99, max: 1.01 }
    }
}

/// How the difference between sampler and trainer is corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrectionConfig {
    /// How the ratio becomes a factor.
    pub rule: Rule,
    /// The band of the ratio; verl truncates token ratios at 2, TRL at 3.
    pub band: Band,
    /// The band outside which a sequence's geometric mean ratio drops the sequence, whatever the rule; `None` drops no sequence.
    pub geometric_mask: Option<Band>,
}

impl Default for CorrectionConfig {
    fn default() -> Self {
        Self { rule: Rule::default(), band: Band { min: 0.0, max: 2.0 }, geometric_mask: None }
    }
}

/// Computes the factor of every token of a sequence, 0 outside the mask: TIS, MIS and the geometric mask (after TRL 1.16, verl and SkyRL).
///
/// `trainer` holds the trainer's log-probabilities under the old policy, `sampler` those that the sampler recorded.
///
/// # Errors
/// A band does not include 1, or the lists do not match the mask.
pub fn correction(config: &CorrectionConfig, mask: &[bool], trainer: &[f32], sampler: &[f32]) -> Result<Vec<f32>> {
    check_band("band", config.band)?;
    config.geometric_mask.map_or(Ok(()), |band| check_band("geometric_mask", band))?;
    check_lists(1, |_| (mask, vec![("trainer log-probabilities", trainer), ("sampler log-probabilities", sampler)]))?;
    let difference = |t: usize| f64::from(trainer[t]) - f64::from(sampler[t]);
    let sum: f64 = trained_positions(mask).map(difference).sum();
    let mean = sum / trained_positions(mask).count().max(1) as f64;
    let mut factors = vec![0.0; mask.len()];
    if config.geometric_mask.is_some_and(|band| !band.contains(ratio(mean))) {
        return Ok(factors);
    }
    for t in trained_positions(mask) {
        let factor = match config.rule {
            Rule::None => 1.0,
            Rule::TokenTruncate => config.band.truncate(ratio(difference(t))),
            Rule::SequenceTruncate => config.band.truncate(ratio(sum)),
            Rule::TokenMask => config.band.mask(ratio(difference(t))),
            Rule::SequenceMask => config.band.mask(ratio(sum)),
        };
        factors[t] = factor as f32;
    }
    Ok(factors)
}

impl Band {
    fn contains(self, ratio: f64) -> bool {
        (self.min..=self.max).contains(&ratio)
    }

    fn truncate(self, ratio: f64) -> f64 {
        ratio.clamp(self.min, self.max)
    }

    fn mask(self, ratio: f64) -> f64 {
        if self.contains(ratio) { ratio } else { 0.0 }
    }
}

fn ratio(difference: f64) -> f64 {
    difference.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
}

fn check_band(key: &'static str, band: Band) -> Result<()> {
    let Band { min, max } = band;
    if (0.0..=1.0).contains(&min) && (1.0..=f64::MAX).contains(&max) {
        return Ok(());
    }
    Err(Error::Config { key, problem: format!("from {min} to {max} is not a band of ratios around 1") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes the factors of a sequence with these ratios, in which every token but the first is trained.
    fn factors(rule: Rule, band: Band, geometric_mask: Option<Band>, ratios: &[f64]) -> Vec<f32> {
        let mut mask = vec![true; ratios.len() + 1];
        mask[0] = false;
        let trainer: Vec<f32> = [f32::NAN].into_iter().chain(ratios.iter().map(|r| (r.ln() - 1.0) as f32)).collect();
        let mut sampler = vec![-1.0; ratios.len() + 1];
        sampler[0] = 7.0;
        let got = correction(&CorrectionConfig { rule, band, geometric_mask }, &mask, &trainer, &sampler).unwrap();
        assert_eq!(got[0], 0.0);
        got[1..].to_vec()
    }

    fn check(rule: Rule, ratios: &[f64], want: &[f32]) {
        let got = factors(rule, Band { min: 0.5, max: 2.0 }, None, ratios);
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{rule:?}: {got:?}, not {want:?}");
    }

    #[test]
    fn rules_truncate_or_mask_tokens_or_sequences() {
        check(Rule::None, &[3.0, 0.2], &[1.0, 1.0]);
        check(Rule::TokenTruncate, &[3.0, 0.2, 1.1], &[2.0, 0.5, 1.1]);
        check(Rule::TokenMask, &[3.0, 0.2, 1.1], &[0.0, 0.0, 1.1]);
        check(Rule::SequenceTruncate, &[3.0, 1.5], &[2.0, 2.0]);
        check(Rule::SequenceMask, &[3.0, 1.5], &[0.0, 0.0]);
        check(Rule::SequenceMask, &[3.0, 0.5], &[1.5, 1.5]);
    }

    /// The product of ratios over a long sequence explodes; the geometric mean does not.
    #[test]
    fn a_long_sequence_fails_the_product_and_passes_the_geometric_mean() {
        let long = [1.005; 1000];
        assert_eq!(factors(Rule::SequenceMask, Band { min: 0.0, max: 3.0 }, None, &long), vec![0.0; 1000]);
        assert_eq!(factors(Rule::None, Band { min: 0.0, max: 3.0 }, Some(Band::default()), &long), vec![1.0; 1000]);
        let off = [1.05; 10];
        assert_eq!(factors(Rule::TokenTruncate, Band { min: 0.0, max: 2.0 }, Some(Band::default()), &off), vec![0.0; 10]);
    }

    #[test]
    fn missing_log_probabilities_and_odd_bands_are_refused() {
        let config = CorrectionConfig::default();
        let problem = correction(&config, &[true], &[-1.0], &[f32::NAN]).unwrap_err().to_string();
        assert!(problem.contains("NaN among its sampler log-probabilities"), "{problem}");
        assert!(correction(&config, &[true], &[-1.0], &[-1.0, -2.0]).is_err());
        let odd = CorrectionConfig { band: Band { min: 1.5, max: 2.0 }, ..config };
        assert!(correction(&odd, &[true], &[-1.0], &[-1.0]).unwrap_err().to_string().contains("`band`"));
    }
}
