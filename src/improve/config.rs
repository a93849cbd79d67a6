//! Section `improve`: what a round plays, how it learns from it, and what lets a candidate through.

use std::path::PathBuf;

use anyhow::{Result, bail};
use milepost_learners::doctor::Bounds;
use milepost_learners::doctor::policy::PolicyDoctorConfig;
use milepost_learners::gate::GateConfig;
use milepost_learners::phases::PhaseConfig;
use milepost_learners::policy::{ActorKind, CreditKind, PolicyConfig};
use milepost_learners::rewards::{Preset, RewardConfig};
use milepost_runtime::{Error, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a round learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Recipe {
    /// The outcome alone, compared within groups of one task (GRPO).
    Outcome,
    /// The outcome, and steps compared with steps from the same state (GiGPO, 2505.10978).
    #[default]
    Gigpo,
    /// Three chained stages: adherence, plan quality, joint (PilotRL, 2508.00344).
    Pilotrl,
    /// Planner and executor alone, on completeness (RLTR, 2508.19598).
    Rltr,
    /// RLTR's baseline: one reward, on the answer, which the executor writes.
    RltrEndToEnd,
    /// Milestone potential, value critic, squared log-ratios (MiRA, 2603.19685).
    Mira,
    /// One expert state at a time: imitation first, then exact match within groups (2509.20616).
    SingleTurn,
    /// Successes alone, by likelihood: the filtered behaviour cloning that the papers compare with.
    Successes,
}

/// One stage of a recipe: what is rewarded, whose tokens learn, and how.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What is rewarded.
    pub rewards: RewardConfig,
    /// Whose tokens are trained.
    pub roles: Vec<Role>,
    /// Whether the first plan of its episodes is the expert's.
    pub given_plans: bool,
    /// The update.
    pub policy: PolicyConfig,
}

impl Recipe {
    /// Its word, as in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Gigpo => "gigpo",
            Self::Pilotrl => "pilotrl",
            Self::Rltr => "rltr",
            Self::RltrEndToEnd => "rltr_end_to_end",
            Self::Mira => "mira",
            Self::SingleTurn => "single_turn",
            Self::Successes => "successes",
        }
    }

    /// Whether a round goes on from the last round's candidate, though it is not in service: a chain of stages is one training.
    pub fn chains(self) -> bool {
        matches!(self, Self::Pilotrl | Self::SingleTurn)
    }

    fn phase(self, round: usize, config: &ImproveConfig) -> Result<Phase> {
        let ImproveConfig { stages, imitation: Imitation { rounds: imitated, lr: imitation_lr }, update: base, .. } = config;
        let acting = vec![Role::Planner, Role::Executor];
        let all = vec![Role::Planner, Role::Executor, Role::Summarizer];
        let with = |credit, actor| PolicyConfig { credit, actor, ..base.clone() };
        // The rewards are the recipe's; whether a group, its tree of tokens or a critic is what they are compared with may be chosen.
        let ratio = match base.credit {
            CreditKind::Ppo | CreditKind::Tree => with(base.credit, ActorKind::Ratio),
            _ => with(CreditKind::Episode, ActorKind::Ratio),
        };
        // Nothing is compared and nothing explored: no group has to vary, and a policy that is sure may learn to be surer.
        let free = Bounds::default();
        let doctor = PolicyDoctorConfig {
            groups_with_variance: free,
            groups_without_variance: free,
            entropy: free,
            // What an expert says may be far from what the policy would have said: to go there is the point.
            kl: Bounds::warn(None, Some(0.5)),
            ..base.doctor.clone()
        };
        let likelihood = PolicyConfig { doctor, ..with(CreditKind::Success, ActorKind::Likelihood) };
        let imitation = PolicyConfig { lr: imitation_lr.unwrap_or(base.lr), ..likelihood.clone() };
        let phase = |rewards: RewardConfig, roles, policy| Phase { rewards, roles, given_plans: false, policy };
        let mut phase = match self {
            Self::Outcome => phase(Preset::Outcome.config(), all, ratio),
            Self::Gigpo => phase(Preset::Outcome.config(), all, with(CreditKind::Step, ActorKind::Ratio)),
            Self::Pilotrl => {
                let stages: &[u8] = stages.get(round - 1).or(stages.last()).map_or(&[], |stage| stage);
                let (rewards, roles) = pilotrl(stages)?;
                Phase { given_plans: stages == [1], ..phase(rewards, roles, ratio) }
            }
            Self::Rltr => phase(Preset::Rltr.config(), acting, ratio),
            Self::RltrEndToEnd => phase(Preset::RltrEndToEnd.config(), all, ratio),
            Self::Mira => phase(Preset::Outcome.config(), acting, with(CreditKind::Mira, ActorKind::Squares)),
            Self::SingleTurn if round <= *imitated => phase(Preset::SingleTurn.config(), acting, imitation),
            Self::SingleTurn => phase(Preset::SingleTurn.config(), acting, ratio),
            Self::Successes => phase(Preset::Outcome.config(), all, likelihood),
        };
        self.honours(config, &phase.policy)?;
        phase.rewards = over(&phase.rewards, &config.rewards)?;
        if phase.rewards.expert_match > 0.0 && self != Self::SingleTurn {
            bail!(Error::BadInput(
                "improve.rewards.expert_match: only single_turn has an expert beside each action; remove the key".into()
            ));
        }
        Ok(phase)
    }

    /// Refuses keys that would change nothing.
    fn honours(self, config: &ImproveConfig, policy: &PolicyConfig) -> Result<()> {
        let (asked, plain) = (&config.update, PolicyConfig::default());
        let refuse = |key: &str, why: &str| -> Result<()> {
            bail!(Error::BadInput(format!("improve.update.{key}: the recipe {} {why}; remove the key", self.word())))
        };
        let chooses =
            !matches!(self, Self::Gigpo | Self::Mira | Self::Successes) && matches!(asked.credit, CreditKind::Ppo | CreditKind::Tree);
        // What single_turn imitates by and what it samples by are two: neither can be asked for.
        let own = |of_round: bool| of_round && self != Self::SingleTurn;
        if !chooses && asked.credit != plain.credit && !own(asked.credit == policy.credit) {
            refuse("credit", "has its own")?;
        }
        if asked.actor != plain.actor && !own(asked.actor == policy.actor) {
            refuse("actor", "has its own")?;
        }
        if matches!(self, Self::Mira | Self::Successes) {
            if asked.correction != plain.correction {
                refuse("correction", "learns without ratios")?;
            }
            if asked.loss.kl_weight != plain.loss.kl_weight {
                refuse("loss.kl_weight", "learns without ratios")?;
            }
        }
        let known: &[&str] = match self {
            // A call's one reward is whether it is the expert's.
            Self::SingleTurn => &["matching"],
            // Only the outcome decides what is imitated.
            Self::Successes => &[],
            _ => return Ok(()),
        };
        if let Some(key) = config.rewards.keys().find(|key| !known.contains(&&key[..])) {
            bail!(Error::BadInput(format!("improve.rewards.{key}: the recipe {} is not rewarded so; remove the key", self.word())));
        }
        if config.update.overlong.is_some() {
            bail!(Error::BadInput(format!("improve.update.overlong: the recipe {} fines no episode; remove the key", self.word())));
        }
        Ok(())
    }

    /// Whether it needs what the bundled suite alone knows: verdicts of more than the outcome.
    pub fn needs_the_suite(self) -> bool {
        !matches!(self, Self::Outcome | Self::Gigpo | Self::Successes | Self::SingleTurn)
    }
}

/// A recipe's rewards with what `improve.rewards` says over them.
fn over(rewards: &RewardConfig, keys: &serde_json::Map<String, Value>) -> Result<RewardConfig> {
    let mut value = serde_json::to_value(rewards)?;
    if let Value::Object(all) = &mut value {
        all.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let rewards: RewardConfig = serde_json::from_value(value).map_err(|error| Error::BadInput(format!("improve.rewards: {error}")))?;
    rewards.check().map_err(|error| Error::BadInput(format!("improve.rewards: {error}")))?;
    Ok(rewards)
}

/// Rewards and trained roles of one of PilotRL's stages, or of several at once: each reward that one of them has, once.
fn pilotrl(stages: &[u8]) -> Result<(RewardConfig, Vec<Role>)> {
    let presets = stages.iter().map(|stage| match stage {
        1 => Ok((Preset::Pilotrl1, &[Role::Executor][..])),
        2 => Ok((Preset::Pilotrl2, &[Role::Planner][..])),
        3 => Ok((Preset::Pilotrl3, &[Role::Planner, Role::Executor][..])),
        other => Err(Error::BadInput(format!("improve.stages: PilotRL has the stages 1, 2 and 3, and no {other}"))),
    });
    let presets = presets.collect::<Result<Vec<_>, _>>()?;
    let Some(mut rewards) = presets.first().map(|(preset, _)| preset.config()) else {
        bail!(Error::BadInput("improve.stages is empty; use [[1], [2], [3]]".into()));
    };
    for more in presets.iter().map(|(preset, _)| preset.config()) {
        rewards.adherence = rewards.adherence.max(more.adherence);
        rewards.plan_quality = rewards.plan_quality.max(more.plan_quality);
    }
    let trained = |role: &Role| presets.iter().any(|(_, roles)| roles.contains(role));
    Ok((rewards, [Role::Planner, Role::Executor].into_iter().filter(trained).collect()))
}

/// Whose trajectories `single_turn` learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expert {
    /// The suite's oracle.
    #[default]
    Oracle,
    /// Verified successes in the store, of uniquely minimal length for their task; always so with `--suite own`.
    Recorded,
}

/// How the recipe `single_turn` begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Imitation {
    /// Rounds that imitate the expert, each on other tasks, before its states are sampled at.
    pub rounds: usize,
    /// Their learning rate; `null` is that of the update. A likelihood bears a higher one than ratios do.
    pub lr: Option<f64>,
}

impl Default for Imitation {
    fn default() -> Self {
        Self { rounds: 1, lr: None }
    }
}

/// Section `improve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImproveConfig {
    /// Where runs keep their state; `null` is `improve/` beside the episodes.
    pub directory: Option<PathBuf>,
    /// How a round learns.
    pub recipe: Recipe,
    /// PilotRL's stages by round, the last for all later rounds; a list of several mixes their rewards.
    pub stages: Vec<Vec<u8>>,
    /// Whose trajectories `single_turn` learns from.
    pub expert: Expert,
    /// How `single_turn` begins.
    pub imitation: Imitation,
    /// MiRA's phases: of what the tasks of its next round are made.
    pub phases: PhaseConfig,
    /// Levels of the suite that are played, for training and in the gate.
    pub levels: Vec<String>,
    /// Templates of these levels that are played; empty for all.
    pub templates: Vec<String>,
    /// Tasks a round.
    pub tasks: usize,
    /// Episodes a task: they are compared with each other.
    pub group: usize,
    /// Samples at a state of `single_turn` where one of the first `group` was not the expert's, and one alone where the model is sure; 0 for
    /// `group` everywhere.
    pub in_doubt: usize,
    /// Play a task's first episode greedily, and its others only where that failed.
    pub greedy_first: bool,
    /// Sampling temperature of training episodes; validation is greedy.
    pub temperature: f32,
    /// Episodes at once; the engine takes one call at a time on a CPU.
    pub workers: usize,
    /// Test tasks with which each generation is measured again at the end; 0 for none.
    pub remeasure: usize,
    /// Seed of the choice of tasks and of all sampling.
    pub seed: u64,
    /// Niceness of the training process, 0 to 19.
    pub nice: i32,
    /// Most memory of the training process in GiB; `null` for no bound.
    pub memory_gib: Option<u64>,
    /// Keys of the rewards over those of the recipe.
    pub rewards: serde_json::Map<String, Value>,
    /// The update's constants.
    pub update: PolicyConfig,
    /// What lets a candidate through.
    pub gate: GateConfig,
}

impl Default for ImproveConfig {
    fn default() -> Self {
        Self {
            directory: None,
            recipe: Recipe::default(),
            stages: vec![vec![1], vec![2], vec![3]],
            expert: Expert::default(),
            imitation: Imitation::default(),
            phases: PhaseConfig::default(),
            levels: vec!["medium".into(), "long".into()],
            templates: Vec::new(),
            tasks: 16,
            group: 8,
            in_doubt: 0,
            greedy_first: false,
            temperature: 1.0,
            workers: 2,
            remeasure: 200,
            seed: 1,
            nice: 10,
            memory_gib: None,
            rewards: serde_json::Map::new(),
            update: PolicyConfig::default(),
            gate: GateConfig::default(),
        }
    }
}

impl ImproveConfig {
    /// What a round (from 1) rewards and trains: PilotRL goes through its `stages` and stays at the last, single-turn GRPO begins with
    /// imitation.
    ///
    /// # Errors
    /// A stage that PilotRL does not have.
    pub fn phase(&self, round: usize) -> Result<Phase> {
        self.recipe.phase(round, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pilotrl_goes_through_its_stages_and_stays_at_the_last() {
        let with = |stages| ImproveConfig { recipe: Recipe::Pilotrl, stages, ..ImproveConfig::default() };
        let config = with(ImproveConfig::default().stages);
        let phase = |round| config.phase(round).unwrap();
        assert_eq!((phase(1).roles, phase(2).roles), (vec![Role::Executor], vec![Role::Planner]));
        let (first, second, last) = (phase(1).rewards, phase(2).rewards, phase(7).rewards);
        assert!(first.adherence > 0.0 && first.plan_quality == 0.0 && second.plan_quality > 0.0 && second.adherence == 0.0);
        assert_eq!((last.adherence, last.plan_quality), (0.0, 0.0));
        let all = with(vec![vec![1, 2, 3]]).phase(1).unwrap();
        assert!(all.rewards.adherence > 0.0 && all.rewards.plan_quality > 0.0 && all.roles.len() == 2);
        let given = |stages| with(stages).phase(1).unwrap().given_plans;
        assert!(
            given(vec![vec![1]]) && !given(vec![vec![2]]) && !given(vec![vec![1, 2, 3]]),
            "plans are given where the planner learns nothing"
        );
        assert!(with(vec![vec![4]]).phase(1).is_err() && with(Vec::new()).phase(1).is_err());
    }

    #[test]
    fn rewards_of_the_configuration_lie_over_the_recipes() {
        let with = |text: &str| serde_json::from_str::<ImproveConfig>(text).unwrap().phase(1);
        let rewards = with(r#"{"recipe": "rltr", "rewards": {"repetition": 0.5, "floor": null}}"#).unwrap().rewards;
        assert_eq!((rewards.repetition, rewards.floor, rewards.completeness, rewards.error), (0.5, None, 1.0, 0.2));
        let problem = with(r#"{"recipe": "rltr", "rewards": {"repetitions": 0.5}}"#).unwrap_err().to_string();
        assert!(problem.contains("improve.rewards") && problem.contains("repetitions"), "{problem}");
        // What is no weight, and what a recipe would pass over, is refused.
        for (text, named) in [
            (r#"{"recipe": "rltr", "rewards": {"error": -0.2}}"#, "error"),
            (r#"{"recipe": "mira", "rewards": {"expert_match": 1.0}}"#, "expert_match"),
            (r#"{"recipe": "single_turn", "rewards": {"error": 0.2}}"#, "single_turn"),
            (r#"{"recipe": "successes", "update": {"overlong": {"max_tokens": 100, "buffer": 10, "factor": 1.0}}}"#, "overlong"),
        ] {
            let problem = with(text).unwrap_err().to_string();
            assert!(problem.contains(named) && problem.contains("improve."), "{problem}");
        }
        assert!(with(r#"{"recipe": "single_turn", "rewards": {"matching": "exact"}}"#).is_ok());
    }

    #[test]
    fn single_turn_imitates_first_at_its_own_rate() {
        let imitation = Imitation { rounds: 2, lr: Some(1e-3) };
        let config = ImproveConfig { recipe: Recipe::SingleTurn, imitation, ..ImproveConfig::default() };
        let policies = [1, 2, 3].map(|round| config.phase(round).unwrap().policy);
        assert_eq!(policies.each_ref().map(|policy| policy.actor), [ActorKind::Likelihood, ActorKind::Likelihood, ActorKind::Ratio]);
        assert_eq!(policies.map(|policy| policy.lr), [1e-3, 1e-3, PolicyConfig::default().lr]);
    }

    #[test]
    fn recipes_with_ratios_take_ppos_credit_where_it_is_asked_for() {
        let update = PolicyConfig { credit: CreditKind::Ppo, ..PolicyConfig::default() };
        let credit = |recipe| ImproveConfig { recipe, update: update.clone(), ..ImproveConfig::default() }.phase(1).unwrap().policy.credit;
        assert_eq!([Recipe::Rltr, Recipe::RltrEndToEnd, Recipe::Outcome].map(credit), [CreditKind::Ppo; 3]);
    }

    #[test]
    fn a_credit_an_actor_and_a_correction_that_a_recipe_would_pass_over_are_refused() {
        let with = |text: &str| serde_json::from_str::<ImproveConfig>(text).unwrap().phase(1);
        let band = r#"{"correction": {"rule": "token_truncate"}}"#;
        for (recipe, update, key) in [
            ("mira", r#"{"credit": "ppo"}"#, "credit"),
            ("gigpo", r#"{"credit": "tree"}"#, "credit"),
            ("rltr", r#"{"credit": "step"}"#, "credit"),
            ("outcome", r#"{"actor": "squares"}"#, "actor"),
            ("single_turn", r#"{"actor": "likelihood"}"#, "actor"),
            ("mira", band, "correction"),
            ("successes", r#"{"loss": {"kl_weight": 0.1}}"#, "kl_weight"),
        ] {
            let problem = with(&format!(r#"{{"recipe": "{recipe}", "update": {update}}}"#)).unwrap_err().to_string();
            assert!(problem.contains(&format!("improve.update.{key}")) || problem.contains("loss.kl_weight"), "{problem}");
            assert!(problem.contains(recipe), "{problem}");
        }
        for (recipe, update) in [("mira", r#"{"credit": "mira", "actor": "squares"}"#), ("gigpo", r#"{"credit": "step"}"#), ("rltr", band)]
        {
            with(&format!(r#"{{"recipe": "{recipe}", "update": {update}}}"#)).unwrap();
        }
    }

    #[test]
    fn rltr_masks_the_summarizer_and_its_baseline_does_not() {
        let roles = |recipe| ImproveConfig { recipe, ..ImproveConfig::default() }.phase(1).unwrap().roles;
        assert!(!roles(Recipe::Rltr).contains(&Role::Summarizer) && roles(Recipe::RltrEndToEnd).contains(&Role::Summarizer));
    }
}
