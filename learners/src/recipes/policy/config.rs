//! The configuration of a policy update.

use serde::{Deserialize, Serialize};

use crate::adapter::LoraConfig;
use crate::advantages::{AdvantageConfig, GaeConfig, GigpoConfig, MiraConfig, ShapingConfig};
use crate::critic::CriticConfig;
use crate::doctor::Bounds;
use crate::doctor::policy::PolicyDoctorConfig;
use crate::losses::{CorrectionConfig, LossConfig, MiraLossConfig, Normalisation, OverlongConfig, Rule, overlong};
use crate::model::Storage;
use crate::ops::matmul::Precision;
use crate::optim::{AdamWConfig, Schedule};
use crate::replay::ReplayConfig;
use crate::{DeviceKind, Error, Result};

/// How the advantages of an episode's calls are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditKind {
    /// One advantage per episode, relative to its group (section `advantage`).
    #[default]
    Episode,
    /// GiGPO: the episode relative to its group, and each step relative to steps from the same state (section `gigpo`).
    Step,
    /// MiRA's doubly robust advantage from value and potential critics (section `mira`).
    Mira,
    /// PPO: the return from each call on, relative to a critic of these returns (section `gae`).
    Ppo,
    /// Token-level credit from the prefix tree of the group's samples ([`crate::advantages::tree`]).
    Tree,
    /// 1 for every call of a success, and no credit for failures: filtered behaviour cloning, or imitation if an expert played.
    Success,
}

/// The loss that the policy minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Clipped ratios to the sampler's probabilities (section `loss`).
    #[default]
    Ratio,
    /// MiRA's squared log-ratio to the policy at the start of the update (section `squares`).
    Squares,
    /// The likelihood of the sampled tokens, times their advantage: supervised training.
    Likelihood,
}

/// The settings of one policy update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// How the advantages of an episode's calls are computed.
    pub credit: CreditKind,
    /// The constants of episode-level advantages.
    pub advantage: AdvantageConfig,
    /// The constants of step-level advantages.
    pub gigpo: GigpoConfig,
    /// The constants of PPO's advantages.
    pub gae: GaeConfig,
    /// The constants of MiRA's advantages.
    pub mira: MiraConfig,
    /// The shaping that MiRA's potential critic adds to the rewards.
    pub shaping: ShapingConfig,
    /// Whether steps of failed episodes are shaped too; MiRA shapes only successful ones.
    pub shape_failures: bool,
    /// How MiRA's and PPO's critics are fitted.
    pub critic: CriticConfig,
    /// The selection of episodes of earlier rounds that MiRA replays.
    pub replay: ReplayConfig,
    /// The number of folds into which the tasks are split for cross-fitting: a state is estimated by critics fitted to the other folds.
    /// With 1 fold, critics estimate the states that they were fitted to.
    pub critic_folds: usize,
    /// Whether the potential critic is fitted to failed episodes too; digests of the paper disagree.
    pub potential_from_failures: bool,
    /// The loss that the policy minimises.
    pub actor: ActorKind,
    /// The constants of the clipped losses.
    pub loss: LossConfig,
    /// The constants of the squared loss.
    pub squares: MiraLossConfig,
    /// How the difference between sampler and trainer is corrected; none is needed if the loss's ratio is taken to the sampler's
    /// probabilities.
    pub correction: CorrectionConfig,
    /// Weight of the entropy bonus of each trained token's distribution; 0 for none.
    pub entropy: f64,
    /// Peak learning rate.
    pub lr: f64,
    /// The schedule of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// The number of steps over which the learning rate rises from 0, at most a tenth of all steps: at first the optimiser has no estimate
    /// of the gradients' scale, and large steps can ruin a policy.
    pub warmup_steps: u64,
    /// The number of times that every call is trained on.
    pub epochs: usize,
    /// The maximum number of prompt and completion tokens in one optimiser step.
    pub tokens_per_batch: usize,
    /// The maximum gradient norm; larger gradients are scaled down to it.
    pub clip: f32,
    /// Added to the square root of AdamW's second moment; PPO's usual constant is 1e-5. Most batches of a nearly deterministic policy have
    /// tiny gradients; with a smaller constant their noise would be scaled up to full steps, and the policy would drift.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// The maximum number of tokens of a call; longer calls are left out and counted.
    pub max_tokens: usize,
    /// The penalty for episodes whose number of sampled tokens comes close to a limit; `null` for none (PilotRL's scripts use it, for a
    /// limit of 14,336).
    pub overlong: Option<OverlongConfig>,
    /// The minimum uncertainty of a call ([`super::ModelCall::doubt`]) for it to be trained on; more certain calls are left out and
    /// counted. The bound does not apply to imitation (`likelihood`), whose calls the policy did not sample. 0 keeps all calls.
    pub least_doubt: f64,
    /// The shape of the adapter.
    pub lora: LoraConfig,
    /// The number format of the frozen linear weights.
    pub base: Storage,
    /// The device on which the model is trained.
    pub device: DeviceKind,
    /// The number format of matrix products.
    pub precision: Precision,
    /// Whether only layer inputs are kept and the other activations are recomputed in the backward pass.
    pub recompute: bool,
    /// The maximum share of probability that the policy may move away from the sampled tokens, 0 to 1, before the update is stopped.
    pub most_moved: f64,
    /// The checks before the first step; a failed check stops the update.
    pub doctor: PolicyDoctorConfig,
    /// Seed for the order of the calls and for the adapter.
    pub seed: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            credit: CreditKind::default(),
            advantage: AdvantageConfig::default(),
            gigpo: GigpoConfig::default(),
            gae: GaeConfig::default(),
            mira: MiraConfig::default(),
            shaping: ShapingConfig::default(),
            shape_failures: false,
            critic: CriticConfig::default(),
            replay: ReplayConfig::default(),
            critic_folds: 4,
            potential_from_failures: true,
            actor: ActorKind::default(),
            loss: LossConfig { normalisation: Normalisation::Dapo, ..LossConfig::default() },
            squares: MiraLossConfig::default(),
            correction: CorrectionConfig { rule: Rule::None, ..CorrectionConfig::default() },
            entropy: 0.0,
            lr: 1e-4,
            schedule: Schedule::Constant,
            warmup_steps: 10,
            epochs: 1,
            tokens_per_batch: 16_384,
            clip: 1.0,
            eps: 1e-5,
            weight_decay: 0.0,
            max_tokens: 1536,
            overlong: None,
            least_doubt: 0.05,
            lora: LoraConfig::default(),
            base: Storage::F32,
            device: DeviceKind::default(),
            precision: Precision::F32,
            recompute: false,
            most_moved: 0.08,
            // The grammar often allows a single token, whose entropy is 0 whatever the policy.
            doctor: PolicyDoctorConfig {
                entropy: Bounds { fail_below: Some(1e-4), ..Bounds::default() },
                sampler_difference: Bounds { fail_above: Some(0.05), ..Bounds::default() },
                ..PolicyDoctorConfig::default()
            },
            seed: 1,
        }
    }
}

impl PolicyConfig {
    /// Refuses invalid constants.
    ///
    /// # Errors
    /// A constant is out of its range; the error names the key.
    pub fn check(&self) -> Result<()> {
        let refuse = |key, problem: &str| Err(Error::Config { key, problem: problem.into() });
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return refuse("lr", "must be above 0, such as 0.0005");
        }
        if self.epochs == 0 {
            return refuse("epochs", "must be at least 1");
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return refuse("eps", "must be above 0, such as 0.00001");
        }
        if self.tokens_per_batch == 0 {
            return refuse("tokens_per_batch", "must be at least 1, such as 16384");
        }
        if !(self.entropy >= 0.0 && self.entropy.is_finite()) {
            return refuse("entropy", "must be at least 0; 0 for no bonus");
        }
        if !(self.least_doubt >= 0.0 && self.least_doubt.is_finite()) {
            return refuse("least_doubt", "must be at least 0, such as 0.05; 0 keeps every call");
        }
        if !(self.most_moved > 0.0 && self.most_moved <= 1.0) {
            return refuse("most_moved", "must lie above 0 and be at most 1, such as 0.08");
        }
        if self.credit == CreditKind::Tree && self.actor == ActorKind::Squares {
            return refuse("actor", "`squares` takes an action as a whole, and `credit: tree` credits tokens; use `ratio`");
        }
        if let Some(config) = &self.overlong {
            overlong(config, 0)?;
        }
        self.critic.check()?;
        self.loss.check()
    }

    /// Returns the settings of the optimiser.
    pub fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { clip: self.clip, eps: self.eps, weight_decay: self.weight_decay, ..AdamWConfig::default() }
    }
}
