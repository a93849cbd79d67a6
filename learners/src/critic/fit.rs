//! Fitting a critic: AdamW on mini-batches in a seeded order.

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::{Critic, CriticConfig, FeatureScale};
use crate::optim::{AdamW, AdamWConfig};
use crate::{Error, Result};

/// The standard deviation below which a feature counts as constant.
const MIN_DEVIATION: f64 = 1e-6;

/// The report of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CriticFit {
    /// The mean loss over the data before the fit.
    pub loss_before: f64,
    /// The mean loss over the data after the fit.
    pub loss_after: f64,
    /// The number of optimiser steps.
    pub steps: u64,
    /// The mean loss on states that were held out of the fit, if it was a cross-fit; `held_out_base` is the loss to compare it with.
    #[serde(default)]
    pub held_out: Option<f64>,
    /// The mean loss of predicting the mean of the targets for every held-out state.
    #[serde(default)]
    pub held_out_base: Option<f64>,
    /// The number of passes over the data.
    #[serde(default)]
    pub epochs: usize,
}

impl Critic {
    /// Fits the head to one target per state. A later fit continues from the earlier one and keeps the feature scale of the first.
    ///
    /// # Errors
    /// The configuration is invalid, there are no states, a state has another width, a target is not 0 or 1 (value critic) or lies outside
    /// 0 to 1 (potential critic), or the loss becomes infinite or NaN.
    pub fn fit(&mut self, features: &[Vec<f32>], targets: &[f64], config: &CriticConfig) -> Result<CriticFit> {
        self.fit_watched(features, targets, config, |_, _| Ok(()))
    }

    /// Fits the head as [`Self::fit`] does, and calls `watch` after every pass with the number of the pass, from 0, and the critic.
    pub(crate) fn fit_watched(
        &mut self,
        features: &[Vec<f32>],
        targets: &[f64],
        config: &CriticConfig,
        mut watch: impl FnMut(usize, &Self) -> Result<()>,
    ) -> Result<CriticFit> {
        config.check()?;
        self.check(features, targets)?;
        self.scale.get_or_insert_with(|| FeatureScale::of(features));
        let states: Vec<Vec<f32>> = features.iter().map(|x| self.scaled(x)).collect();
        let loss_before = self.mean_loss(&states, targets);
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: config.weight_decay, ..Default::default() }, &self.head.shape.tensors());
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut order: Vec<usize> = (0..states.len()).collect();
        let (mut grads, mut inner) = (vec![0.0; self.head.params.len()], Vec::new());
        for epoch in 0..config.epochs {
            order.shuffle(&mut rng);
            for batch in order.chunks(config.batch) {
                for &i in batch {
                    let logit = self.head.logit(&states[i], &mut inner);
                    let slope = self.kind.loss(logit, targets[i]).1 as f32;
                    self.head.backward(&states[i], &inner, slope, &mut grads);
                }
                optimizer.step(&mut self.head.params, &mut [&mut grads], 1.0 / batch.len() as f32, config.lr as f32);
            }
            watch(epoch, self)?;
        }
        let loss_after = self.mean_loss(&states, targets);
        match loss_after.is_finite() && optimizer.skipped == 0 {
            true => Ok(CriticFit {
                loss_before,
                loss_after,
                steps: optimizer.steps,
                held_out: None,
                held_out_base: None,
                epochs: config.epochs,
            }),
            false => Err(Error::Unhealthy(format!(
                "the critic's loss is {loss_after} after {} steps, {} of them skipped; lower its `lr`",
                optimizer.steps, optimizer.skipped
            ))),
        }
    }

    /// Returns the loss of the prediction `estimate` for the target `target`.
    pub(crate) fn loss_of(&self, estimate: f64, target: f64) -> f64 {
        let p = estimate.clamp(1e-6, 1.0 - 1e-6);
        self.kind.loss((p / (1.0 - p)).ln(), target).0
    }

    /// Returns the mean loss over states with scaled features.
    fn mean_loss(&self, states: &[Vec<f32>], targets: &[f64]) -> f64 {
        let mut inner = Vec::new();
        let losses = states.iter().zip(targets).map(|(x, target)| self.kind.loss(self.head.logit(x, &mut inner), *target).0);
        losses.sum::<f64>() / states.len() as f64
    }

    /// Checks the states and targets of a fit.
    fn check(&self, features: &[Vec<f32>], targets: &[f64]) -> Result<()> {
        if features.is_empty() || features.len() != targets.len() {
            let problem = format!("a critic needs one target a state; here are {} states and {} targets", features.len(), targets.len());
            return Err(Error::Batch { index: features.len().min(targets.len()), problem });
        }
        self.check_features(features)?;
        for (index, target) in targets.iter().enumerate() {
            self.kind.check_target(*target).map_err(|problem| Error::Batch { index, problem })?;
        }
        Ok(())
    }
}

impl FeatureScale {
    /// Returns the mean and the inverse standard deviation of each feature; a constant feature is only shifted.
    fn of(features: &[Vec<f32>]) -> Self {
        let n = features.len() as f64;
        let column = |c: usize| features.iter().map(move |x| f64::from(x[c]));
        let mean_and_inverse = |c: usize| {
            let mean = column(c).sum::<f64>() / n;
            let deviation = (column(c).map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean as f32, if deviation > MIN_DEVIATION { (1.0 / deviation) as f32 } else { 1.0 })
        };
        let (mean, inverse) = (0..features[0].len()).map(mean_and_inverse).unzip();
        Self { mean, inverse }
    }
}
