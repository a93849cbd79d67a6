//! How each round of a recipe learns: its rewards, the trained roles, and the constants of its update.

use milepost_learners::doctor::Bounds;
use milepost_learners::doctor::policy::PolicyDoctorConfig;
use milepost_learners::policy::{ActorKind, CreditKind, PolicyConfig};
use milepost_learners::rewards::{Preset, RewardConfig};
use milepost_runtime::Role;
use serde_json::Value;

use super::ImproveConfig;
use super::recipe::Recipe;
use crate::error::{Error, Result};

/// How one round learns.
#[derive(Clone, Debug)]
pub struct TrainingPhase {
    /// The rewards.
    pub rewards: RewardConfig,
    /// The roles whose tokens are trained.
    pub roles: Vec<Role>,
    /// Whether the first plan of each episode comes from the expert instead of the model.
    pub given_plans: bool,
    /// The constants of the update.
    pub policy: PolicyConfig,
}

impl ImproveConfig {
    /// Returns how a round (from 1) learns. PilotRL goes through its `stages` and stays at the last; single-turn GRPO starts with imitation.
    ///
    /// # Errors
    /// PilotRL does not have one of the stages, or a key contradicts the recipe.
    pub fn phase(&self, round: usize) -> Result<TrainingPhase> {
        let mut phase = self.recipe_phase(round)?;
        self.check_update(&phase.policy)?;
        self.check_rewards()?;
        phase.rewards = with_overrides(&phase.rewards, &self.rewards)?;
        if phase.rewards.expert_match > 0.0 && self.recipe != Recipe::SingleTurn {
            return Err(Error::bad_input(
                "improve.rewards.expert_match: only single_turn has an expert beside each action; remove the key",
            ));
        }
        Ok(phase)
    }

    /// Returns how a round learns by the recipe, without the reward keys of the configuration.
    fn recipe_phase(&self, round: usize) -> Result<TrainingPhase> {
        let base = &self.update;
        let acting = vec![Role::Planner, Role::Executor];
        let all = vec![Role::Planner, Role::Executor, Role::Summarizer];
        let with = |credit, actor| PolicyConfig { credit, actor, ..base.clone() };
        // The recipe fixes the rewards; the configuration may choose what they are compared with: a group, its tree of tokens, or a critic.
        let ratio = match base.credit {
            CreditKind::Ppo | CreditKind::Tree => with(base.credit, ActorKind::Ratio),
            _ => with(CreditKind::Episode, ActorKind::Ratio),
        };
        let phase = |rewards: RewardConfig, roles, policy| TrainingPhase { rewards, roles, given_plans: false, policy };
        Ok(match self.recipe {
            Recipe::Outcome => phase(Preset::Outcome.config(), all, ratio),
            Recipe::Gigpo => phase(Preset::Outcome.config(), all, with(CreditKind::Step, ActorKind::Ratio)),
            Recipe::Pilotrl => {
                let stages: &[u8] = self.stages.get(round - 1).or(self.stages.last()).map_or(&[], |stage| stage);
                let (rewards, roles) = pilotrl_stages(stages)?;
                TrainingPhase { given_plans: stages == [1], ..phase(rewards, roles, ratio) }
            }
            Recipe::Rltr => phase(Preset::Rltr.config(), acting, ratio),
            Recipe::RltrEndToEnd => phase(Preset::RltrEndToEnd.config(), all, ratio),
            Recipe::Mira => phase(Preset::Outcome.config(), acting, with(CreditKind::Mira, ActorKind::Squares)),
            Recipe::SingleTurn if round <= self.imitation.rounds => {
                let imitation = PolicyConfig { lr: self.imitation.lr.unwrap_or(base.lr), ..self.likelihood() };
                phase(Preset::SingleTurn.config(), acting, imitation)
            }
            Recipe::SingleTurn => phase(Preset::SingleTurn.config(), acting, ratio),
            Recipe::Successes => phase(Preset::Outcome.config(), all, self.likelihood()),
        })
    }

    /// Returns the constants of an update by likelihood. It compares and explores nothing, so its health checks require no variance within
    /// groups and accept that a policy which is certain becomes more certain.
    fn likelihood(&self) -> PolicyConfig {
        let no_bounds = Bounds::default();
        let doctor = PolicyDoctorConfig {
            groups_with_variance: no_bounds,
            groups_without_variance: no_bounds,
            entropy: no_bounds,
            // The purpose of imitation is to move the policy to the expert's completions, which may be far from its own.
            kl: Bounds::warn(None, Some(0.5)),
            ..self.update.doctor.clone()
        };
        PolicyConfig { doctor, credit: CreditKind::Success, actor: ActorKind::Likelihood, ..self.update.clone() }
    }

    /// Refuses keys of `improve.update` that the recipe would ignore; `policy` holds the constants of the round.
    fn check_update(&self, policy: &PolicyConfig) -> Result<()> {
        let (recipe, given, default) = (self.recipe, &self.update, PolicyConfig::default());
        let refuse = |key: &str, why: &str| -> Result<()> {
            Err(Error::bad_input(format!("improve.update.{key}: the recipe {} {why}; remove the key", recipe.word())))
        };
        let may_choose_credit = !matches!(recipe, Recipe::Gigpo | Recipe::Mira | Recipe::Successes)
            && matches!(given.credit, CreditKind::Ppo | CreditKind::Tree);
        // A recipe accepts the value that it sets anyway. Single-turn GRPO sets two different ones, for imitation and for sampling, so that
        // neither may be given.
        let is_recipes_own = |of_round: bool| of_round && recipe != Recipe::SingleTurn;
        if !may_choose_credit && given.credit != default.credit && !is_recipes_own(given.credit == policy.credit) {
            refuse("credit", "has its own")?;
        }
        if given.actor != default.actor && !is_recipes_own(given.actor == policy.actor) {
            refuse("actor", "has its own")?;
        }
        if matches!(recipe, Recipe::Mira | Recipe::Successes) {
            if given.correction != default.correction {
                refuse("correction", "learns without ratios")?;
            }
            if given.loss.kl_weight != default.loss.kl_weight {
                refuse("loss.kl_weight", "learns without ratios")?;
            }
        }
        Ok(())
    }

    /// Refuses keys of `improve.rewards`, and a penalty of long episodes, that the recipe would ignore.
    fn check_rewards(&self) -> Result<()> {
        let recipe = self.recipe.word();
        let known: &[&str] = match self.recipe {
            // The only reward of a call is whether it matches the expert's action.
            Recipe::SingleTurn => &["matching"],
            // The outcome alone decides which episodes are imitated.
            Recipe::Successes => &[],
            _ => return Ok(()),
        };
        if let Some(key) = self.rewards.keys().find(|key| !known.contains(&&key[..])) {
            return Err(Error::bad_input(format!("improve.rewards.{key}: the recipe {recipe} is not rewarded so; remove the key")));
        }
        if self.update.overlong.is_some() {
            return Err(Error::bad_input(format!("improve.update.overlong: the recipe {recipe} fines no episode; remove the key")));
        }
        Ok(())
    }
}

/// Returns a recipe's rewards, overridden by the keys of `improve.rewards`.
fn with_overrides(rewards: &RewardConfig, keys: &serde_json::Map<String, Value>) -> Result<RewardConfig> {
    let mut value = serde_json::to_value(rewards)?;
    if let Value::Object(all) = &mut value {
        all.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let rewards: RewardConfig = serde_json::from_value(value).map_err(|error| Error::bad_input(format!("improve.rewards: {error}")))?;
    rewards.check().map_err(|error| Error::bad_input(format!("improve.rewards: {error}")))?;
    Ok(rewards)
}

/// Returns the rewards and the trained roles of one of PilotRL's stages, or of several at once; a reward that several stages have counts once.
fn pilotrl_stages(stages: &[u8]) -> Result<(RewardConfig, Vec<Role>)> {
    let presets = stages.iter().map(|stage| match stage {
        1 => Ok((Preset::Pilotrl1, &[Role::Executor][..])),
        2 => Ok((Preset::Pilotrl2, &[Role::Planner][..])),
        3 => Ok((Preset::Pilotrl3, &[Role::Planner, Role::Executor][..])),
        other => Err(Error::bad_input(format!("improve.stages: PilotRL has the stages 1, 2 and 3, and no {other}"))),
    });
    let presets = presets.collect::<Result<Vec<_>, _>>()?;
    let Some(mut rewards) = presets.first().map(|(preset, _)| preset.config()) else {
        return Err(Error::bad_input("improve.stages is empty; use [[1], [2], [3]]"));
    };
    for more in presets.iter().map(|(preset, _)| preset.config()) {
        rewards.adherence = rewards.adherence.max(more.adherence);
        rewards.plan_quality = rewards.plan_quality.max(more.plan_quality);
    }
    let trained = |role: &Role| presets.iter().any(|(_, roles)| roles.contains(role));
    Ok((rewards, [Role::Planner, Role::Executor].into_iter().filter(trained).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Imitation;

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
    fn rewards_of_the_configuration_override_the_recipes() {
        let with = |text: &str| serde_json::from_str::<ImproveConfig>(text).unwrap().phase(1);
        let rewards = with(r#"{"recipe": "rltr", "rewards": {"repetition": 0.5, "floor": null}}"#).unwrap().rewards;
        assert_eq!((rewards.repetition, rewards.floor, rewards.completeness, rewards.error), (0.5, None, 1.0, 0.2));
        let problem = with(r#"{"recipe": "rltr", "rewards": {"repetitions": 0.5}}"#).unwrap_err().to_string();
        assert!(problem.contains("improve.rewards") && problem.contains("repetitions"), "{problem}");
        // A value that is no weight is refused, and so is a key that the recipe would ignore.
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
    fn single_turn_imitates_first_at_the_learning_rate_of_imitation() {
        let imitation = Imitation { rounds: 2, lr: Some(1e-3) };
        let config = ImproveConfig { recipe: Recipe::SingleTurn, imitation, ..ImproveConfig::default() };
        let policies = [1, 2, 3].map(|round| config.phase(round).unwrap().policy);
        assert_eq!(policies.each_ref().map(|policy| policy.actor), [ActorKind::Likelihood, ActorKind::Likelihood, ActorKind::Ratio]);
        assert_eq!(policies.map(|policy| policy.lr), [1e-3, 1e-3, PolicyConfig::default().lr]);
    }

    #[test]
    fn recipes_with_ratios_use_ppos_credit_if_it_is_configured() {
        let update = PolicyConfig { credit: CreditKind::Ppo, ..PolicyConfig::default() };
        let credit = |recipe| ImproveConfig { recipe, update: update.clone(), ..ImproveConfig::default() }.phase(1).unwrap().policy.credit;
        assert_eq!([Recipe::Rltr, Recipe::RltrEndToEnd, Recipe::Outcome].map(credit), [CreditKind::Ppo; 3]);
    }

    #[test]
    fn a_credit_an_actor_and_a_correction_that_a_recipe_would_ignore_are_refused() {
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
    fn rltr_does_not_train_the_summarizer_and_its_baseline_does() {
        let roles = |recipe| ImproveConfig { recipe, ..ImproveConfig::default() }.phase(1).unwrap().roles;
        assert!(!roles(Recipe::Rltr).contains(&Role::Summarizer) && roles(Recipe::RltrEndToEnd).contains(&Role::Summarizer));
    }
}
