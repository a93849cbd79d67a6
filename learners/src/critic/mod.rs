//! MiRA's critics (2603.19685, section 3.2): small heads on the policy's hidden states, one for the outcome, one for progress.
//!
//! The trunk is read and never moved: [`crate::Trainer::hidden`] gives the state at a step's last prompt token, which has seen goal,
//! plan, past actions and the latest page, and a head of two layers makes a probability of it.

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

/// What a critic is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticKind {
    /// The true outcome by cross-entropy (MiRA, 2603.19685, value loss; WebRL, 2411.02337, equation 8): never a shaped return.
    Value,
    /// Progress labels by squared error (MiRA, 2603.19685, potential loss).
    Potential,
}

/// A head with the scale of the features that it was first fitted to.
#[derive(Clone, Debug, PartialEq)]
pub struct Critic {
    kind: CriticKind,
    head: Head,
    scale: Option<Scale>,
}

/// Mean and spread of every feature.
#[derive(Clone, Debug, PartialEq)]
struct Scale {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl Critic {
    /// A value critic for features of this width; until it is fitted it says one half.
    pub fn value(width: usize, config: &CriticConfig) -> Result<Self> {
        Self::new(CriticKind::Value, width, config)
    }

    /// A potential critic for features of this width; until it is fitted it says one half.
    pub fn potential(width: usize, config: &CriticConfig) -> Result<Self> {
        Self::new(CriticKind::Potential, width, config)
    }

    fn new(kind: CriticKind, width: usize, config: &CriticConfig) -> Result<Self> {
        config.check()?;
        let head = Head::random(Shape { width, hidden: config.hidden }, &mut StdRng::seed_from_u64(config.seed));
        Ok(Self { kind, head, scale: None })
    }

    /// What it is fitted to.
    pub fn kind(&self) -> CriticKind {
        self.kind
    }

    /// How many features a state has.
    pub fn width(&self) -> usize {
        self.head.shape.width
    }

    /// The chance of success, or the share of the way that is done.
    ///
    /// # Errors
    /// Features of another width.
    pub fn predict(&self, features: &[f32]) -> Result<f64> {
        self.check_widths(std::slice::from_ref(&features))?;
        Ok(sigmoid(self.head.logit(&self.scaled(features), &mut Vec::new())))
    }

    fn scaled(&self, features: &[f32]) -> Vec<f32> {
        match &self.scale {
            None => features.to_vec(),
            Some(Scale { mean, inverse }) => {
                features.iter().zip(mean).zip(inverse).map(|((x, mean), inverse)| (x - mean) * inverse).collect()
            }
        }
    }

    fn check_widths<F: AsRef<[f32]>>(&self, features: &[F]) -> Result<()> {
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
    /// The loss of a logit against a target, and its derivative in the logit.
    fn loss(self, logit: f64, target: f64) -> (f64, f64) {
        let p = sigmoid(logit);
        match self {
            // log(1 + e^z) - y z, in the form that cannot overflow.
            Self::Value => (logit.max(0.0) + (-logit.abs()).exp().ln_1p() - target * logit, p - target),
            Self::Potential => ((p - target).powi(2), 2.0 * (p - target) * p * (1.0 - p)),
        }
    }

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
