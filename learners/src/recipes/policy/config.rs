//! What an update of the policy can be told.

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

/// How credit for an episode reaches its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditKind {
    /// One advantage an episode, against its group (section `advantage`).
    #[default]
    Episode,
    /// GiGPO: the episode against its group, and each step against steps from the same state (section `gigpo`).
    Step,
    /// MiRA's doubly robust advantage from value and potential critics (section `mira`).
    Mira,
    /// PPO: what a call's episode earned from it on, against a critic of these returns (section `gae`).
    Ppo,
    /// Each token by what it changed among the group's samples that began alike ([`crate::advantages::tree`]).
    Tree,
    /// 1 for every call of a success, and nothing of failures: filtered behaviour cloning, or imitation where an expert played.
    Success,
}

/// What the actor minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Ratios to the sampler, clipped (section `loss`).
    #[default]
    Ratio,
    /// MiRA's squared log-ratio to the policy at the start of the update (section `squares`).
    Squares,
    /// The likelihood of what was said, times its advantage: supervised training.
    Likelihood,
}

/// One update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// How credit for an episode reaches its calls.
    pub credit: CreditKind,
    /// Episode-level advantages.
    pub advantage: AdvantageConfig,
    /// Step-level advantages.
    pub gigpo: GigpoConfig,
    /// PPO's advantages.
    pub gae: GaeConfig,
    /// MiRA's advantages.
    pub mira: MiraConfig,
    /// What MiRA's potential adds to its rewards.
    pub shaping: ShapingConfig,
    /// Also shape steps of episodes that failed; MiRA shapes from positive traces only.
    pub shape_failures: bool,
    /// How MiRA's and PPO's critics are fitted.
    pub critic: CriticConfig,
    /// What MiRA replays of earlier rounds.
    pub replay: ReplayConfig,
    /// Parts of the tasks; a state is judged by critics fitted to the other parts. 1 lets critics judge what they have seen.
    pub critic_folds: usize,
    /// Fit the potential critic to failed episodes too; digests of the paper disagree.
    pub potential_from_failures: bool,
    /// What the actor minimises.
    pub actor: ActorKind,
    /// The clipped losses' constants.
    pub loss: LossConfig,
    /// The squared loss's constants.
    pub squares: MiraLossConfig,
    /// How the sampler's distance from the trainer is corrected for; the ratio itself corrects where it is to the sampler.
    pub correction: CorrectionConfig,
    /// Weight of the entropy of each trained token's distribution, as a bonus; 0 for none.
    pub entropy: f64,
    /// The highest learning rate.
    pub lr: f64,
    /// How it moves after the warm-up.
    pub schedule: Schedule,
    /// Steps over which it rises from 0, at most a tenth of all: the optimiser knows no scale at first, and a policy is easily broken.
    pub warmup_steps: u64,
    /// Times that every call is trained on.
    pub epochs: usize,
    /// Tokens of prompts and completions in one step of the optimiser.
    pub tokens_per_batch: usize,
    /// The largest gradient norm.
    pub clip: f32,
    /// Added to the root of AdamW's second moment. Most batches of a policy that is nearly sure of itself say next to nothing; without a
    /// bound their noise would be scaled up to whole steps, and the policy would wander off. PPO's usual constant (1e-5).
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// The longest call in tokens; longer ones are left out and counted.
    pub max_tokens: usize,
    /// What an episode loses whose written tokens near a limit; `null` for nothing (PilotRL's scripts have it on, for a limit of 14,336).
    pub overlong: Option<OverlongConfig>,
    /// The least doubt of a call ([`super::Turn::doubt`]) that is worth a pass through the model; surer ones are left out and counted. It is not
    /// asked of imitation (`likelihood`), whose calls the policy did not sample. 0 keeps all.
    pub least_doubt: f64,
    /// Shape of the adapter.
    pub lora: LoraConfig,
    /// What the frozen linear weights are kept in.
    pub base: Storage,
    /// What the model is trained on.
    pub device: DeviceKind,
    /// The numbers that products are computed in.
    pub precision: Precision,
    /// Keep only layer inputs and compute the rest again on the way back.
    pub recompute: bool,
    /// The share of its probability that a policy may move from what was said, 0 to 1, before the update is stopped.
    pub most_moved: f64,
    /// What is looked at before the first step; a failure stops the update.
    pub doctor: PolicyDoctorConfig,
    /// Seeds the order of the calls and the adapter.
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
            // The grammar leaves many tokens without a choice: their entropy is 0 whatever the policy.
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
    /// Refuses constants with which nothing can be trained.
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

    /// The optimiser's constants.
    pub fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { clip: self.clip, eps: self.eps, weight_decay: self.weight_decay, ..AdamWConfig::default() }
    }
}
