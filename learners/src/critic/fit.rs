//! How a critic learns: mini-batches in a seeded order, by AdamW.

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::{Critic, CriticConfig, Scale};
use crate::optim::{AdamW, AdamWConfig};
use crate::{Error, Result};

/// Spreads under this are read as features that do not vary.
const LEAST_SPREAD: f64 = 1e-6;

/// What a fit did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CriticFit {
    /// Mean loss over the data before.
    pub loss_before: f64,
    /// Mean loss over the data after.
    pub loss_after: f64,
    /// Steps that moved the head.
    pub steps: u64,
    /// Mean loss on states that it was not fitted to, where it was cross-fitted; that of always saying the targets' mean is `held_out_base`.
    #[serde(default)]
    pub held_out: Option<f64>,
    /// What the targets' mean alone would lose.
    #[serde(default)]
    pub held_out_base: Option<f64>,
    /// Passes over the data.
    #[serde(default)]
    pub epochs: usize,
}

impl Critic {
    /// Fits the head to one target a state. Later fits go on from earlier ones, on the feature scale of the first.
    ///
    /// # Errors
    /// No states, states of another width, targets that are no outcomes or no progress, or a loss that is not finite.
    pub fn fit(&mut self, features: &[Vec<f32>], targets: &[f64], config: &CriticConfig) -> Result<CriticFit> {
        self.fit_watched(features, targets, config, |_, _| Ok(()))
    }

    /// [`Self::fit`], shown after every pass with that pass's number from 0.
    pub(crate) fn fit_watched(
        &mut self,
        features: &[Vec<f32>],
        targets: &[f64],
        config: &CriticConfig,
        mut watch: impl FnMut(usize, &Self) -> Result<()>,
    ) -> Result<CriticFit> {
        config.check()?;
        self.check(features, targets)?;
        self.scale.get_or_insert_with(|| Scale::of(features));
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

    /// The loss of saying `estimate` where `target` was right.
    pub(crate) fn loss_of(&self, estimate: f64, target: f64) -> f64 {
        let p = estimate.clamp(1e-6, 1.0 - 1e-6);
        self.kind.loss((p / (1.0 - p)).ln(), target).0
    }

    fn mean_loss(&self, states: &[Vec<f32>], targets: &[f64]) -> f64 {
        let mut inner = Vec::new();
        let losses = states.iter().zip(targets).map(|(x, target)| self.kind.loss(self.head.logit(x, &mut inner), *target).0);
        losses.sum::<f64>() / states.len() as f64
    }

    fn check(&self, features: &[Vec<f32>], targets: &[f64]) -> Result<()> {
        if features.is_empty() || features.len() != targets.len() {
            let problem = format!("a critic needs one target a state; here are {} states and {} targets", features.len(), targets.len());
            return Err(Error::Batch { index: features.len().min(targets.len()), problem });
        }
        self.check_widths(features)?;
        for (index, target) in targets.iter().enumerate() {
            self.kind.check_target(*target).map_err(|problem| Error::Batch { index, problem })?;
        }
        Ok(())
    }
}

impl Scale {
    fn of(features: &[Vec<f32>]) -> Self {
        let n = features.len() as f64;
        let column = |c: usize| features.iter().map(move |x| f64::from(x[c]));
        let spread = |c: usize| {
            let mean = column(c).sum::<f64>() / n;
            let deviation = (column(c).map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean as f32, if deviation > LEAST_SPREAD { (1.0 / deviation) as f32 } else { 1.0 })
        };
        let (mean, inverse) = (0..features[0].len()).map(spread).unzip();
        Self { mean, inverse }
    }
}
