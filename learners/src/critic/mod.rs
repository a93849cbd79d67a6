//! MiRA's critics (2603.19685, section 3.2): small heads on the policy's hidden states, one that predicts the outcome and one that predicts
//! progress.
//!
//! The trunk is never trained by a critic. [`crate::Trainer::hidden`] returns the hidden state at the last prompt token of a step, which depends on
//! goal, plan, past actions and the latest page, and a head of two layers turns it into a probability.

mod config;
mod fit;
mod head;
mod progress;
mod store;

pub use config::CriticConfig;
pub use fit::CriticFit;
pub use progress::progress_labels;

use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use self::head::{Head, Shape, sigmoid};
use crate::{Error, Result};

/// The target that a critic is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticKind {
    /// The true outcome, never a shaped return, by cross-entropy (MiRA, 2603.19685, value loss; WebRL, 2411.02337, equation 8).
    Value,
    /// Progress labels, by squared error (MiRA, 2603.19685, potential loss).
    Potential,
}

/// A critic: a head, with the scale of the features that it was first fitted to.
#[derive(Clone, Debug, PartialEq)]
pub struct Critic {
    kind: CriticKind,
    head: Head,
    scale: Option<FeatureScale>,
}

/// The mean and the inverse standard deviation of every feature.
#[derive(Clone, Debug, PartialEq)]
struct FeatureScale {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl Critic {
    /// Creates a value critic for features of this width; it predicts one half until it is fitted.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn value(width: usize, config: &CriticConfig) -> Result<Self> {
        Self::new(CriticKind::Value, width, config)
    }

    /// Creates a potential critic for features of this width; it predicts one half until it is fitted.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn potential(width: usize, config: &CriticConfig) -> Result<Self> {
        Self::new(CriticKind::Potential, width, config)
    }

    fn new(kind: CriticKind, width: usize, config: &CriticConfig) -> Result<Self> {
        config.check()?;
        let head = Head::random(Shape { width, hidden: config.hidden }, &mut StdRng::seed_from_u64(config.seed));
        Ok(Self { kind, head, scale: None })
    }

    /// Returns the target that the critic is fitted to.
    pub fn kind(&self) -> CriticKind {
        self.kind
    }

    /// Returns the number of features of a state.
    pub fn width(&self) -> usize {
        self.head.shape.width
    }

    /// Predicts the probability of success (value critic) or the fraction of progress (potential critic) of a state.
    ///
    /// # Errors
    /// The state has another number of features, or one that is not finite.
    pub fn predict(&self, features: &[f32]) -> Result<f64> {
        self.check_features(std::slice::from_ref(&features))?;
        Ok(sigmoid(self.head.logit(&self.scaled(features), &mut Vec::new())))
    }

    /// Shifts and scales features; they are returned unchanged before the first fit.
    fn scaled(&self, features: &[f32]) -> Vec<f32> {
        match &self.scale {
            None => features.to_vec(),
            Some(FeatureScale { mean, inverse }) => {
                features.iter().zip(mean).zip(inverse).map(|((x, mean), inverse)| (x - mean) * inverse).collect()
            }
        }
    }

    /// Checks the number of features of each state, and that they are finite.
    fn check_features<F: AsRef<[f32]>>(&self, features: &[F]) -> Result<()> {
        let width = self.width();
        for (index, features) in features.iter().enumerate() {
            let features = features.as_ref();
            let problem = if features.len() != width {
                format!("has {} features, the critic {width}; a critic belongs to one model", features.len())
            } else if features.iter().any(|x| !x.is_finite()) {
                "holds a feature that is not finite".into()
            } else {
                continue;
            };
            return Err(Error::Batch { index, problem });
        }
        Ok(())
    }
}

impl CriticKind {
    /// Returns the loss of a logit for a target, and the derivative of the loss with respect to the logit.
    fn loss(self, logit: f64, target: f64) -> (f64, f64) {
        let p = sigmoid(logit);
        match self {
            // This is log(1 + e^z) - y z in the form that cannot overflow.
            Self::Value => (logit.max(0.0) + (-logit.abs()).exp().ln_1p() - target * logit, p - target),
            Self::Potential => ((p - target).powi(2), 2.0 * (p - target) * p * (1.0 - p)),
        }
    }

    /// Checks that a target is valid for this kind of critic; the error says why it is not.
    fn check_target(self, target: f64) -> std::result::Result<(), String> {
        match self {
            Self::Value if target != 0.0 && target != 1.0 => {
                Err(format!("has the target {target}; an outcome is 0 or 1, and shaping is no part of it"))
            }
            Self::Potential if !(0.0..=1.0).contains(&target) => Err(format!("has the target {target}; progress lies between 0 and 1")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
