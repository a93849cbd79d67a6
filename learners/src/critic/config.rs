//! What a critic can be told.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A critic and how it is fitted; MiRA does not publish these figures, and WebRL's are of critics that train their whole trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CriticConfig {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Learning rate.
    pub lr: f64,
    /// Passes over the data in one fit.
    pub epochs: usize,
    /// States in one step.
    pub batch: usize,
    /// Decoupled weight decay of the two matrices.
    pub weight_decay: f32,
    /// Seeds the first weights and the order of the states.
    pub seed: u64,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self { hidden: 64, lr: 3e-3, epochs: 20, batch: 64, weight_decay: 0.01, seed: 0 }
    }
}

impl CriticConfig {
    /// Refuses figures that nothing can be fitted with.
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
