//! The configuration of a policy loss.

use serde::{Deserialize, Serialize};

use super::Sample;
use super::k3::KL_CAP;
use crate::{Error, Result};

/// The term that a token or a sequence adds to the loss, for a ratio `ρ` to the old policy and an advantage `A`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// `-min(ρ A, clip(ρ) A)` for every token (PPO, 1707.06347, equation 7).
    #[default]
    Clipped,
    /// The clipped term with the geometric mean ratio of the sequence as `ρ` (GSPO, 2507.18071, section 4.1).
    Gspo,
    /// `-min(ρ, max) A logprob`, without a gradient through the ratio (CISPO, 2506.13585; the bound as in TRL).
    Cispo,
}

/// The denominator of the sum over tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// The mean over each sequence, then over sequences: a token of a short sequence counts more (GRPO, 2402.03300, equation 3).
    Grpo,
    /// The mean over all trained tokens of the batch (DAPO, 2503.14476, section 3.3); with one micro-batch it equals TRL's `bnpo`.
    #[default]
    Dapo,
    /// The sum over tokens, divided by the number of sequences times a constant length (Dr. GRPO, 2503.20783, section 3.2).
    DrGrpo,
}

/// The constants of a policy loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// The term that a token adds.
    pub objective: Objective,
    /// The denominator of the sum over tokens.
    pub normalisation: Normalisation,
    /// Ratios are clipped below `1 - eps_low`; GSPO's paper uses 3e-4.
    pub eps_low: f64,
    /// Ratios are clipped above `1 + eps_high`; a value above `eps_low` is clip-higher (DAPO, 2503.14476, section 3.1). GSPO's paper uses
    /// 4e-4.
    pub eps_high: f64,
    /// The maximum loss of a token with a negative advantage `A`, as a multiple of `-A`; it must be above 1, and `None` means no bound
    /// (dual clip, 1912.09729; verl uses 3).
    pub dual_clip: Option<f64>,
    /// The maximum ratio with which CISPO weights a token (TRL's `cispo`; ScaleRL uses 5).
    pub cispo_max_ratio: f64,
    /// The constant length of `dr_grpo`: the maximum number of tokens of a completion. It has no default.
    pub max_tokens: usize,
    /// Weight of the KL divergence from the reference policy; 0 for none.
    pub kl_weight: f64,
    /// The maximum KL divergence of a token, beyond which it has no gradient; `None` for no bound (verl uses 10).
    pub kl_cap: Option<f64>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            objective: Objective::default(),
            normalisation: Normalisation::default(),
            eps_low: 0.2,
            eps_high: 0.28,
            dual_clip: Some(3.0),
            cispo_max_ratio: 5.0,
            max_tokens: 0,
            kl_weight: 0.0,
            kl_cap: Some(KL_CAP),
        }
    }
}

impl LossConfig {
    /// Refuses constants that make the loss meaningless.
    ///
    /// # Errors
    /// A constant is out of its range.
    pub fn check(&self) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let (key, problem) = if !(0.0..1.0).contains(&self.eps_low) {
            ("eps_low", format!("{} does not lie in [0, 1)", self.eps_low))
        } else if !(self.eps_high >= 0.0 && self.eps_high.is_finite()) {
            ("eps_high", format!("{} is not at least 0", self.eps_high))
        } else if self.dual_clip.is_some_and(|c| !(c > 1.0 && c.is_finite())) {
            ("dual_clip", "a bound has to be over 1; verl has 3".into())
        } else if !positive(self.cispo_max_ratio) {
            ("cispo_max_ratio", format!("{} is not over 0", self.cispo_max_ratio))
        } else if self.normalisation == Normalisation::DrGrpo && self.max_tokens == 0 {
            ("max_tokens", "`dr_grpo` divides by it: give the limit of a completion in tokens".into())
        } else if !(self.kl_weight >= 0.0 && self.kl_weight.is_finite()) {
            ("kl_weight", format!("{} is not at least 0", self.kl_weight))
        } else if self.kl_cap.is_some_and(|cap| !positive(cap)) {
            ("kl_cap", "a bound has to be over 0; verl has 10".into())
        } else {
            return Ok(());
        };
        Err(Error::Config { key, problem })
    }

    /// Returns, for each sequence, the weight of one of its trained tokens under the configured normalisation.
    pub(super) fn token_weights(&self, samples: &[Sample]) -> Vec<f64> {
        let counts: Vec<usize> = samples.iter().map(|s| super::trained_positions(&s.mask).count()).collect();
        let sequences = samples.len() as f64;
        let total = counts.iter().sum::<usize>().max(1) as f64;
        let share = |count: &usize| match self.normalisation {
            Normalisation::Grpo => 1.0 / (sequences * (*count).max(1) as f64),
            Normalisation::Dapo => 1.0 / total,
            Normalisation::DrGrpo => 1.0 / (sequences * self.max_tokens as f64),
        };
        counts.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(key: &str, change: impl Fn(&mut LossConfig)) {
        let mut config = LossConfig::default();
        assert!(config.check().is_ok());
        change(&mut config);
        let problem = config.check().unwrap_err().to_string();
        assert!(problem.contains(&format!("`{key}`")), "{problem}");
    }

    #[test]
    fn constants_are_checked() {
        check_refused("eps_low", |c| c.eps_low = 1.0);
        check_refused("eps_high", |c| c.eps_high = f64::NAN);
        check_refused("dual_clip", |c| c.dual_clip = Some(1.0));
        check_refused("cispo_max_ratio", |c| c.cispo_max_ratio = 0.0);
        check_refused("max_tokens", |c| c.normalisation = Normalisation::DrGrpo);
        check_refused("kl_weight", |c| c.kl_weight = -0.1);
        check_refused("kl_cap", |c| c.kl_cap = Some(0.0));
    }

    #[test]
    fn configuration_is_strict() {
        let config: LossConfig = serde_json::from_str(r#"{"objective": "gspo", "normalisation": "dr_grpo", "dual_clip": null}"#).unwrap();
        assert_eq!((config.objective, config.normalisation, config.dual_clip), (Objective::Gspo, Normalisation::DrGrpo, None));
        assert!(serde_json::from_str::<LossConfig>(r#"{"epsilon": 0.2}"#).is_err());
        assert!(serde_json::from_str::<LossConfig>(r#"{"objective": "Gspo"}"#).is_err());
    }
}
