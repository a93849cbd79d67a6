//! The shaping that the potential critic adds to the rewards of an episode.

use serde::{Deserialize, Serialize};

use super::{MiraConfig, MiraStep};
use crate::{Error, Result};

/// The form of the shaping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShapingForm {
    /// `alpha (P' - P)`, as MiRA's paper prints it: without a discount it sums to a bonus of at most `alpha` per episode.
    #[default]
    Printed,
    /// `alpha (gamma P' - P)` with a potential of 0 at the end: the form that changes no optimal policy (Ng et al. 1999, theorem 1).
    Invariant,
}

/// How the potential critic shapes rewards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapingConfig {
    /// Whether rewards are shaped at all; without shaping MiRA is WebRL ("no potential critic" among its ablations).
    pub potential: bool,
    /// The weight of the shaping: MiRA chose 0.3 from a grid over 0.1 to 0.8, so that shaping does not dwarf the outcome.
    pub alpha: f64,
    /// The form of the shaping.
    pub form: ShapingForm,
}

impl Default for ShapingConfig {
    fn default() -> Self {
        Self { potential: true, alpha: 0.3, form: ShapingForm::default() }
    }
}

/// Computes the shaping of every step of an episode from its potentials, one for each state and one more for the end (MiRA, 2603.19685,
/// shaped reward). The sum should be logged next to the outcome.
///
/// # Errors
/// There are fewer than two potentials, a potential lies outside 0 to 1, or a constant is out of range.
pub fn shaping(config: &ShapingConfig, gamma: f64, potentials: &[f64]) -> Result<Vec<f64>> {
    check(config, gamma, potentials)?;
    let alpha = if config.potential { config.alpha } else { 0.0 };
    let last = potentials.len() - 2;
    let one = |(t, pair): (usize, &[f64])| match config.form {
        ShapingForm::Printed => alpha * (pair[1] - pair[0]),
        ShapingForm::Invariant if t == last => -alpha * pair[0],
        ShapingForm::Invariant => alpha * (gamma * pair[1] - pair[0]),
    };
    Ok(potentials.windows(2).enumerate().map(one).collect())
}

/// Builds the steps of an episode for [`super::mira`]. The outcome is the last step's reward, and the value after the last step is 0. The
/// potential at the end is 1 after a success, and that of the last state after a failure.
///
/// # Errors
/// The number of values differs from the number of potentials, or [`shaping`] fails.
pub fn mira_steps(config: &MiraConfig, shape: &ShapingConfig, values: &[f64], potentials: &[f64], success: bool) -> Result<Vec<MiraStep>> {
    if values.len() != potentials.len() {
        let problem = format!("has {} values and {} potentials", values.len(), potentials.len());
        return Err(Error::Batch { index: values.len().min(potentials.len()), problem });
    }
    let end = if success { Some(1.0) } else { potentials.last().copied() };
    let potentials: Vec<f64> = potentials.iter().copied().chain(end).collect();
    let shaped = shaping(shape, config.gamma, &potentials)?;
    let last = values.len() - 1;
    let step = |(t, shaping): (usize, f64)| MiraStep {
        reward: if t == last && success { 1.0 } else { 0.0 },
        shaping,
        value: values[t],
        next_value: values.get(t + 1).copied().unwrap_or(0.0),
    };
    Ok(shaped.into_iter().enumerate().map(step).collect())
}

fn check(config: &ShapingConfig, gamma: f64, potentials: &[f64]) -> Result<()> {
    if !(config.alpha >= 0.0 && config.alpha.is_finite()) {
        return Err(Error::Config { key: "alpha", problem: format!("{} is not at least 0; MiRA has 0.3", config.alpha) });
    }
    if !(0.0..=1.0).contains(&gamma) {
        return Err(Error::Config { key: "gamma", problem: format!("{gamma} does not lie between 0 and 1") });
    }
    let problem = if potentials.len() < 2 {
        "the episode has no steps".into()
    } else if let Some(t) = potentials.iter().position(|p| !(0.0..=1.0).contains(p)) {
        format!("the potential of state {t} is {}; progress lies between 0 and 1", potentials[t])
    } else {
        return Ok(());
    };
    Err(Error::Batch { index: 0, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantages::tests::check_close;
    use crate::advantages::{MonteCarlo, mira};
    use crate::critic::progress_labels;

    fn invariant() -> ShapingConfig {
        ShapingConfig { form: ShapingForm::Invariant, ..Default::default() }
    }

    /// The paper's formulas, computed by hand.
    #[test]
    fn the_printed_form_sums_to_alpha_after_a_success() {
        let labels = progress_labels(&[2, 4], 3, 9, true).unwrap();
        let got = shaping(&ShapingConfig::default(), 0.9, &labels).unwrap();
        check_close(&got, &[&[0.05; 4][..], &[0.02; 5]].concat(), 1e-12);
        check_close(&[got.iter().sum()], &[0.3], 1e-12);
    }

    #[test]
    fn the_invariant_form_costs_the_first_potential_whatever_follows() {
        for potentials in [&[0.4, 0.9, 0.2, 1.0][..], &[0.4, 0.1, 0.5], &[0.4, 1.0]] {
            let shaped = shaping(&invariant(), 0.9, potentials).unwrap();
            let discounted: f64 = shaped.iter().enumerate().map(|(t, s)| 0.9_f64.powi(t as i32) * s).sum();
            check_close(&[discounted], &[-0.3 * 0.4], 1e-12);
        }
    }

    #[test]
    fn without_a_potential_mira_is_webrl() {
        let (values, potentials) = ([0.5, 0.62], [0.1, 0.8]);
        let mira_config = MiraConfig { gamma: 1.0, ..Default::default() };
        let advantages = |shape: &ShapingConfig, success| {
            let steps = mira_steps(&mira_config, shape, &values, &potentials, success).unwrap();
            mira(&mira_config, &steps, f64::from(u8::from(success))).unwrap()
        };
        let off = ShapingConfig { potential: false, ..Default::default() };
        check_close(&advantages(&off, true), &[0.31, 0.38], 1e-12);
        // Half of the shaping is added: 0.3 * 0.7 / 2, and 0.3 * 0.2 / 2 at the end, where the potential is 1 after a success only.
        check_close(&advantages(&ShapingConfig::default(), true), &[0.31 + 0.105, 0.38 + 0.03], 1e-12);
        check_close(&advantages(&ShapingConfig::default(), false), &[-0.19 + 0.105, -0.62], 1e-12);
    }

    #[test]
    fn without_the_monte_carlo_half_the_outcome_reaches_the_last_step_only() {
        let config = MiraConfig { gamma: 1.0, monte_carlo: MonteCarlo::Off, ..Default::default() };
        let steps = mira_steps(&config, &ShapingConfig::default(), &[0.5, 0.6], &[0.2, 0.2], true).unwrap();
        check_close(&mira(&config, &steps, 1.0).unwrap(), &[0.1, 0.4 + 0.24], 1e-12);
    }

    #[test]
    fn bad_potentials_and_constants_are_refused() {
        let refused = |config: &ShapingConfig, gamma, potentials: &[f64]| shaping(config, gamma, potentials).unwrap_err().to_string();
        assert!(refused(&ShapingConfig { alpha: -0.1, ..invariant() }, 1.0, &[0.0, 1.0]).contains("`alpha`"));
        assert!(refused(&invariant(), 1.5, &[0.0, 1.0]).contains("`gamma`"));
        assert!(refused(&invariant(), 1.0, &[0.0]).contains("no steps"));
        assert!(refused(&invariant(), 1.0, &[0.0, f64::NAN]).contains("state 1"));
        assert!(mira_steps(&MiraConfig::default(), &invariant(), &[], &[], true).is_err());
        assert!(mira_steps(&MiraConfig::default(), &invariant(), &[0.5], &[], true).is_err());
    }
}
