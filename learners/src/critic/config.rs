//! The configuration of a critic.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The configuration of a critic and its fit. MiRA does not publish these figures, and WebRL's belong to critics that train their whole trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CriticConfig {
    /// The width of the hidden layer.
    pub hidden: usize,
    /// The learning rate.
    pub lr: f64,
    /// The number of passes over the data in one fit.
    pub epochs: usize,
    /// The number of states in one step.
    pub batch: usize,
    /// The decoupled weight decay of the two matrices.
    pub weight_decay: f32,
    /// The seed of the initial weights and of the order of the states.
    pub seed: u64,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self { hidden: 64, lr: 3e-3, epochs: 20, batch: 64, weight_decay: 0.01, seed: 0 }
    }
}

impl CriticConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// A count is 0, or the learning rate is not positive and finite.
    pub fn check(&self) -> Result<()> {
        let counts = [("hidden", self.hidden), ("epochs", self.epochs), ("batch", self.batch)];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Error::Config { key, problem: "must be at least 1".into() });
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Error::Config { key: "lr", problem: format!("{} is not over 0; 3e-3 is the default", self.lr) });
        }
        Ok(())
    }
}
