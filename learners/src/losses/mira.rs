//! MiRA's actor loss: regresses the log-ratio of a whole action to the reference on the advantage.

use serde::{Deserialize, Serialize};

use super::k3::{KL_CAP, k3};
use super::{Loss, check_lists, trained_positions};
use crate::{Error, Result};

/// The loss of an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorLoss {
    /// `(beta log(π / π_ref) - A)²`: its minimum does not depend on the policy that sampled the action, so old episodes may be replayed.
    #[default]
    SquaredLogRatio,
    /// `-A log(π / π_ref) + beta KL`, with the KL divergence by k3 ("KL instead of squares" among MiRA's ablations, whose exact form is not
    /// published).
    Kl,
}

/// The constants of MiRA's actor loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MiraLossConfig {
    /// Strength of the regularisation towards the reference policy. MiRA's value is not published; in WebRL, training with 0.01 collapses,
    /// and its code uses 1 and 5.
    pub beta: f64,
    /// The loss of an action.
    pub loss: ActorLoss,
    /// The maximum number of tokens of an action: a longer completion, such as a plan, is split into several actions with one advantage.
    /// MiRA's actions are short; the log-ratio of hundreds of tokens changes by several nats at every step, and its square would dominate
    /// the loss.
    pub action_tokens: usize,
}

impl Default for MiraLossConfig {
    fn default() -> Self {
        Self { beta: 1.0, loss: ActorLoss::default(), action_tokens: 32 }
    }
}

/// One action in the sequence in which it was sampled; the lists have one entry per token of the sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Action {
    /// Marks the action's tokens.
    pub mask: Vec<bool>,
    /// Log-probabilities under the policy in training.
    pub logprobs: Vec<f32>,
    /// Log-probabilities under the reference, which is the policy of the previous phase.
    pub reference_logprobs: Vec<f32>,
    /// The action's advantage.
    pub advantage: f64,
}

/// Computes the mean over actions of [`ActorLoss`] and its derivatives (MiRA, 2603.19685, actor loss; WebRL, 2411.02337, equations 5 to 9).
///
/// # Errors
/// There are no actions, an action has no tokens, lists differ in length, or a number is out of range.
pub fn mira_loss(config: &MiraLossConfig, actions: &[Action]) -> Result<Loss> {
    let beta = config.beta;
    if !(beta > 0.0 && beta.is_finite()) {
        return Err(Error::Config { key: "beta", problem: format!("{beta} is not over 0") });
    }
    if config.action_tokens == 0 {
        return Err(Error::Config { key: "action_tokens", problem: "must be at least 1, such as 32".into() });
    }
    check(actions)?;
    let mut loss = Loss::zero(actions.iter().map(|action| &action.mask));
    let tokens: Vec<Vec<usize>> = actions.iter().map(|action| trained_positions(&action.mask).collect()).collect();
    let count = tokens.iter().map(|tokens| tokens.len().div_ceil(config.action_tokens)).sum::<usize>() as f64;
    for ((action, tokens), derivatives) in actions.iter().zip(&tokens).zip(&mut loss.derivatives) {
        for tokens in tokens.chunks(config.action_tokens) {
            let log_ratio: f64 = tokens.iter().map(|t| f64::from(action.logprobs[*t]) - f64::from(action.reference_logprobs[*t])).sum();
            let (value, slope) = config.action_loss(log_ratio, action.advantage);
            loss.value += value / count;
            tokens.iter().for_each(|t| derivatives[*t] = (slope / count) as f32);
        }
    }
    Ok(loss)
}

impl MiraLossConfig {
    /// Computes the loss of one action and its derivative in the action's log-ratio.
    fn action_loss(&self, log_ratio: f64, advantage: f64) -> (f64, f64) {
        match self.loss {
            ActorLoss::SquaredLogRatio => {
                let error = self.beta * log_ratio - advantage;
                (error * error, 2.0 * self.beta * error)
            }
            ActorLoss::Kl => {
                let (divergence, slope) = k3(log_ratio, 0.0, Some(KL_CAP));
                (self.beta * divergence - advantage * log_ratio, self.beta * slope - advantage)
            }
        }
    }
}

fn check(actions: &[Action]) -> Result<()> {
    check_lists(actions.len(), |i| {
        let lists = [("log-probabilities", &actions[i].logprobs), ("reference log-probabilities", &actions[i].reference_logprobs)];
        (&actions[i].mask[..], lists.map(|(name, list)| (name, &list[..])).to_vec())
    })?;
    let problem = |action: &Action| {
        if !action.mask.contains(&true) {
            Some("the action has no tokens".into())
        } else {
            (!action.advantage.is_finite()).then(|| format!("its advantage is {}", action.advantage))
        }
    };
    match actions.iter().enumerate().find_map(|(index, action)| Some((index, problem(action)?))) {
        Some((index, problem)) => Err(Error::Batch { index, problem }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds an action of one token that follows one prompt token, with these probabilities.
    fn action(policy: f64, reference: f64, advantage: f64) -> Action {
        let list = |p: f64| vec![f32::NAN, p.ln() as f32];
        Action { mask: vec![false, true], logprobs: list(policy), reference_logprobs: list(reference), advantage }
    }

    /// The squared loss, computed by hand.
    #[test]
    fn the_squared_loss_of_one_action() {
        let loss = mira_loss(&MiraLossConfig { beta: 0.5, ..Default::default() }, &[action(0.30, 0.25, 0.31)]).unwrap();
        let error: f64 = 0.5 * 1.2_f64.ln() - 0.31;
        assert!((loss.value - 0.04789).abs() < 5e-6 && (loss.value - error * error).abs() < 1e-6, "{loss:?}");
        assert_eq!(loss.derivatives[0][0], 0.0);
        assert!((f64::from(loss.derivatives[0][1]) - error).abs() < 1e-6, "{loss:?}");
    }

    #[test]
    fn the_log_ratio_of_an_action_sums_over_its_tokens() {
        let two = Action { mask: vec![true; 2], logprobs: vec![-1.0, -2.0], reference_logprobs: vec![-1.5, -2.25], advantage: 0.25 };
        let loss = mira_loss(&MiraLossConfig { beta: 2.0, ..Default::default() }, &[two.clone(), two]).unwrap();
        assert_eq!((loss.value, &loss.derivatives[1][..]), (1.5625, &[2.5, 2.5][..]));
    }

    #[test]
    fn a_long_completion_is_several_actions() {
        let n = 5;
        let long = Action { mask: vec![true; n], logprobs: vec![-1.0; n], reference_logprobs: vec![-1.5; n], advantage: 0.5 };
        let loss = mira_loss(&MiraLossConfig { action_tokens: 2, ..Default::default() }, &[long]).unwrap();
        // Log-ratios of 1, 1 and 0.5 against an advantage of 0.5.
        assert!((loss.value - (0.25 + 0.25 + 0.0) / 3.0).abs() < 1e-9, "{loss:?}");
        assert!((loss.derivatives[0][0] - 1.0 / 3.0).abs() < 1e-6 && loss.derivatives[0][4] == 0.0, "{loss:?}");
    }

    /// At the reference the divergence has no gradient, so that only the advantage counts; away from it the divergence pulls back.
    #[test]
    fn the_kl_ablation_is_a_policy_gradient_held_at_the_reference() {
        let config = MiraLossConfig { beta: 0.5, loss: ActorLoss::Kl, ..Default::default() };
        let slope = |policy, advantage| f64::from(mira_loss(&config, &[action(policy, 0.25, advantage)]).unwrap().derivatives[0][1]);
        assert!((slope(0.25, 0.31) + 0.31).abs() < 1e-6);
        assert!((slope(0.50, 0.0) - 0.5 * (1.0 - 0.5)).abs() < 1e-6);
        let value = mira_loss(&config, &[action(0.50, 0.25, 0.31)]).unwrap().value;
        assert!((value - (0.5 * (0.5 - 1.0 + 2.0_f64.ln()) - 0.31 * 2.0_f64.ln())).abs() < 1e-6);
    }

    #[test]
    fn bad_actions_and_constants_are_refused() {
        let good = action(0.3, 0.25, 0.1);
        assert!(
            mira_loss(&MiraLossConfig { beta: 0.0, ..Default::default() }, std::slice::from_ref(&good))
                .unwrap_err()
                .to_string()
                .contains("`beta`")
        );
        assert!(mira_loss(&MiraLossConfig::default(), &[]).is_err());
        assert!(mira_loss(&MiraLossConfig { action_tokens: 0, ..Default::default() }, std::slice::from_ref(&good)).is_err());
        let silent = Action { mask: vec![false, false], ..good.clone() };
        assert!(mira_loss(&MiraLossConfig::default(), &[good.clone(), silent]).unwrap_err().to_string().starts_with("sequence 1 "));
        assert!(mira_loss(&MiraLossConfig::default(), &[Action { advantage: f64::NAN, ..good }]).is_err());
    }
}
