//! Cross-fitting: every state is judged by a critic that was fitted to the tasks of the other folds (Chernozhukov et al. 2018, section 3).

use std::collections::BTreeMap;
use std::path::Path;

use super::fitted_tasks::FittedTasks;
use crate::critic::{Critic, CriticConfig, CriticFit};
use crate::recipes::policy::config::PolicyConfig;
use crate::recipes::policy::rollout::Rollout;
use crate::{Result, Trainer};

/// The fold of a state's task.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskFold {
    /// The index of the fold.
    fold: usize,
    /// Whether an earlier critic was fitted to the task.
    seen: bool,
}

/// The states of all calls, in the order of the rollouts.
pub(super) struct States {
    /// `[state][feature]`: the model's hidden state at the end of the prompt.
    pub features: Vec<Vec<f32>>,
    /// The fold of each state.
    pub folds: Vec<TaskFold>,
}

impl States {
    /// Computes the hidden state of every call. Tasks are dealt to the folds in rotation, and all states of a task are in the same fold.
    ///
    /// # Errors
    /// A prompt does not fit the model.
    pub fn of(trainer: &mut Trainer, rollouts: &[Rollout], folds: usize, fitted: &FittedTasks) -> Result<Self> {
        let prompts: Vec<&[u32]> = rollouts.iter().flat_map(|rollout| rollout.calls.iter().map(|call| &call.prompt[..])).collect();
        let mut order: BTreeMap<&str, usize> = BTreeMap::new();
        let mut of_states = Vec::with_capacity(prompts.len());
        for rollout in rollouts {
            let next = order.len();
            let fold = *order.entry(&rollout.group).or_insert(next) % folds.max(1);
            of_states.extend(std::iter::repeat_n(TaskFold { fold, seen: fitted.contains(&rollout.group) }, rollout.calls.len()));
        }
        Ok(Self { features: trainer.hidden(&prompts)?, folds: of_states })
    }
}

/// The training data of one critic: the states that have a target.
#[derive(Default)]
pub(super) struct CriticData {
    /// `[state][feature]`: the hidden states.
    pub features: Vec<Vec<f32>>,
    /// The target of each state.
    pub targets: Vec<f64>,
    /// The fold of each state.
    pub folds: Vec<TaskFold>,
}

/// The two critics that a fit can start from. An earlier critic has seen the outcomes of tasks that occur again, so a fresh one judges
/// those.
pub(super) struct StartingCritics {
    /// The critic of an earlier update, or a fresh one if there is none.
    pub continued: Critic,
    /// A critic with initial weights.
    pub fresh: Critic,
}

/// The estimates of held-out states after each epoch. Index 0 is the state before the first epoch.
struct HeldOut {
    /// `[epoch][state]`: the estimates.
    estimates: Vec<Vec<f64>>,
    /// `[epoch]`: the loss, summed over the states that have a target.
    losses: Vec<f64>,
}

/// Estimates every state by critics fitted to the other folds, and saves the critic that is fitted to all folds.
///
/// The critics are fitted for the number of epochs with the lowest held-out loss: a critic that is fitted for longer memorises its own
/// tasks, and is confidently wrong about all others.
///
/// # Errors
/// A critic's loss is not finite, or the critic cannot be saved.
pub(super) fn cross_fit(
    start: &StartingCritics,
    data: &CriticData,
    states: &States,
    config: &PolicyConfig,
    directory: &Path,
) -> Result<(Option<CriticFit>, Vec<f64>)> {
    let mut whole = start.continued.clone();
    if data.features.is_empty() {
        whole.save(directory)?;
        return Ok((None, vec![0.0; states.features.len()]));
    }
    // With one fold there are no other tasks to fit to: the critic of all tasks judges every state.
    if config.critic_folds <= 1 {
        let fit = whole.fit(&data.features, &data.targets, &config.critic)?;
        whole.save(directory)?;
        return Ok((Some(fit), states.features.iter().map(|state| whole.predict(state)).collect::<Result<_>>()?));
    }
    let HeldOut { mut estimates, losses } = estimate_held_out(start, data, states, config)?;
    let best = (1..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap_or(1);
    let count = data.targets.len() as f64;
    let fit = whole.fit(&data.features, &data.targets, &CriticConfig { epochs: best, ..config.critic.clone() })?;
    whole.save(directory)?;
    let mean = data.targets.iter().sum::<f64>() / count;
    let base = data.targets.iter().map(|target| whole.loss_of(mean, *target)).sum::<f64>() / count;
    let fit = CriticFit { held_out: Some(losses[best] / count), held_out_base: Some(base), ..fit };
    Ok((Some(fit), estimates.swap_remove(best)))
}

/// Estimates the states of each fold, after every epoch, by critics fitted to the other folds. Tasks that earlier critics have seen are
/// judged by fresh critics.
fn estimate_held_out(start: &StartingCritics, data: &CriticData, states: &States, config: &PolicyConfig) -> Result<HeldOut> {
    let epochs = config.critic.epochs;
    let mut held_out = HeldOut { estimates: vec![vec![0.0; states.features.len()]; epochs + 1], losses: vec![0.0; epochs + 1] };
    for (fold, seen) in (0..config.critic_folds).flat_map(|fold| [(fold, false), (fold, true)]) {
        let of =
            |folds: &[TaskFold]| -> Vec<usize> { (0..folds.len()).filter(|i| folds[*i].fold == fold && folds[*i].seen == seen).collect() };
        let (own, with_target) = (of(&states.folds), of(&data.folds));
        if own.is_empty() {
            continue;
        }
        let (features, targets): (Vec<_>, Vec<_>) =
            (0..data.folds.len()).filter(|i| data.folds[*i].fold != fold).map(|i| (data.features[i].clone(), data.targets[i])).unzip();
        let mut record = |epoch: usize, judge: &Critic| {
            for i in &own {
                held_out.estimates[epoch][*i] = judge.predict(&states.features[*i])?;
            }
            for i in &with_target {
                held_out.losses[epoch] += judge.loss_of(judge.predict(&data.features[*i])?, data.targets[*i]);
            }
            Ok(())
        };
        let mut judge = if seen { start.fresh.clone() } else { start.continued.clone() };
        record(0, &judge)?;
        if features.is_empty() {
            (1..=epochs).try_for_each(|epoch| record(epoch, &judge))?;
        } else {
            judge.fit_watched(&features, &targets, &config.critic, |epoch, judge| record(epoch + 1, judge))?;
        }
    }
    Ok(held_out)
}
