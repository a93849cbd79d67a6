//! MiRA's and PPO's critics, which use the hidden states of the policy's own model: fits them to the episodes and estimates every state.

mod cross_fit;
mod fitted_tasks;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::PolicyConfig;
use super::rollout::{ModelCall, Rollout};
use crate::critic::{Critic, CriticFit};
use crate::{Result, Trainer};
use cross_fit::{CriticData, StartingCritics, States, cross_fit};
use fitted_tasks::FittedTasks;

/// How the critics were fitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CriticReport {
    /// The fit of the value critic. For MiRA its loss is the cross-entropy with the outcome, in nats; for PPO the squared error of the
    /// returns, scaled to 0 to 1.
    pub value: Option<CriticFit>,
    /// The fit of the potential critic, whose loss is the squared error of the progress; `None` if no progress is known.
    pub potential: Option<CriticFit>,
    /// The value critic's estimate for the first state of each task, averaged over its episodes.
    #[serde(default)]
    pub tasks: BTreeMap<String, f64>,
}

/// Fits MiRA's value and potential critics and writes their estimates into the calls. They continue from the critics in `earlier`, and are
/// saved in `directory`.
///
/// A state is judged by critics that were fitted to other tasks only: a critic that has seen a state's own outcome repeats it, which leaves
/// no advantage (cross-fitting: Chernozhukov et al. 2018, section 3). A task that the earlier critics were fitted to (a replayed success,
/// for example) is judged by fresh critics.
///
/// # Errors
/// An earlier critic belongs to another model, or a critic's loss is not finite.
pub fn fit_mira_critics(
    trainer: &mut Trainer,
    rollouts: &mut [Rollout],
    config: &PolicyConfig,
    earlier: Option<&Path>,
    directory: &Path,
) -> Result<CriticReport> {
    let mut fitted = earlier.map_or(Ok(FittedTasks::NoCritics), FittedTasks::load)?;
    let states = States::of(trainer, rollouts, config.critic_folds, &fitted)?;
    let width = trainer.model().config.hidden_size;
    let value = starting_critics("value", Critic::value(width, &config.critic)?, earlier)?;
    let potential = starting_critics("potential", Critic::potential(width, &config.critic)?, earlier)?;
    let outcomes = CriticData {
        features: states.features.clone(),
        targets: calls(rollouts).map(|(rollout, _)| f64::from(u8::from(rollout.success))).collect(),
        folds: states.folds.clone(),
    };
    let progress = progress_data(rollouts, &states, config);
    let (value_fit, values) = cross_fit(&value, &outcomes, &states, config, &directory.join("value"))?;
    let (potential_fit, potentials) = cross_fit(&potential, &progress, &states, config, &directory.join("potential"))?;
    fitted.extend(rollouts);
    fitted.save(directory)?;
    let estimates = values.into_iter().zip(potentials);
    for (call, (value, potential)) in rollouts.iter_mut().flat_map(|rollout| &mut rollout.calls).zip(estimates) {
        // Without labels the potential is 0, rather than one half everywhere.
        (call.value, call.potential) = (value, if potential_fit.is_some() { potential } else { 0.0 });
    }
    Ok(CriticReport { value: value_fit, potential: potential_fit, tasks: first_values(rollouts) })
}

/// Fits PPO's critic to the return from each call on, and writes its estimates into the calls; a state is judged by critics of other tasks,
/// as in [`fit_mira_critics`]. Every update starts with a fresh critic: returns of another policy, on another scale, would only mislead it.
///
/// # Errors
/// The critic's loss is not finite.
pub fn fit_return_critic(trainer: &mut Trainer, rollouts: &mut [Rollout], config: &PolicyConfig, directory: &Path) -> Result<CriticReport> {
    let states = States::of(trainer, rollouts, config.critic_folds, &FittedTasks::NoCritics)?;
    let returns: Vec<f64> = rollouts.iter().flat_map(|rollout| rollout.returns(config.gae.gamma)).collect();
    let (low, high) = returns.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let span = if high > low { high - low } else { 1.0 };
    let targets = returns.iter().map(|x| (x - low) / span).collect();
    let data = CriticData { features: states.features.clone(), targets, folds: states.folds.clone() };
    let fresh = Critic::potential(trainer.model().config.hidden_size, &config.critic)?;
    let start = StartingCritics { continued: fresh.clone(), fresh };
    let (value, estimates) = cross_fit(&start, &data, &states, config, &directory.join("returns"))?;
    for (call, estimate) in rollouts.iter_mut().flat_map(|rollout| &mut rollout.calls).zip(estimates) {
        call.value = low + span * estimate;
    }
    Ok(CriticReport { value, potential: None, tasks: BTreeMap::new() })
}

/// Loads the critic of this name from the earlier critics, if there is one.
fn starting_critics(name: &str, fresh: Critic, earlier: Option<&Path>) -> Result<StartingCritics> {
    let continued = match earlier.map(|earlier| earlier.join(name)) {
        Some(earlier) if earlier.exists() => Critic::load(&earlier)?,
        _ => fresh.clone(),
    };
    Ok(StartingCritics { continued, fresh })
}

/// Returns every call with its rollout.
fn calls(rollouts: &[Rollout]) -> impl Iterator<Item = (&Rollout, &ModelCall)> {
    rollouts.iter().flat_map(|rollout| rollout.calls.iter().map(move |call| (rollout, call)))
}

/// Collects the potential critic's data: the states whose progress is known.
fn progress_data(rollouts: &[Rollout], states: &States, config: &PolicyConfig) -> CriticData {
    let mut data = CriticData::default();
    for (index, (rollout, call)) in calls(rollouts).enumerate() {
        if let Some(progress) = call.progress.filter(|_| rollout.success || config.potential_from_failures) {
            data.features.push(states.features[index].clone());
            data.targets.push(progress);
            data.folds.push(states.folds[index]);
        }
    }
    data
}

/// Returns the value of each task's first state, averaged over its episodes.
fn first_values(rollouts: &[Rollout]) -> BTreeMap<String, f64> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (group, first) in rollouts.iter().filter_map(|rollout| Some((&rollout.group[..], rollout.calls.first()?))) {
        values.entry(group).or_default().push(first.value);
    }
    values.into_iter().map(|(group, values)| (group.to_owned(), values.iter().sum::<f64>() / values.len() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::LoraConfig;
    use crate::model::Storage;
    use crate::{Model, ModelConfig};

    fn trainer() -> Trainer {
        let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1, ..ModelConfig::seed(64, 0, 1) };
        let lora = LoraConfig { rank: 2, ..Default::default() };
        Trainer::lora(Model::random(shape, 3).unwrap(), lora, Storage::F32, 1, PolicyConfig::default().optimizer()).unwrap()
    }

    /// Builds a rollout whose outcome cannot be predicted from its state.
    fn chance(i: u32) -> Rollout {
        Rollout {
            group: i.to_string(),
            success: i.is_multiple_of(2),
            calls: vec![ModelCall { prompt: vec![2, (i * 37) % 60 + 2, (i * 11) % 59 + 3], progress: Some(0.5), ..Default::default() }],
            ..Default::default()
        }
    }

    /// Computes the mean absolute error of the value critic.
    fn error(rollouts: &[Rollout]) -> f64 {
        rollouts.iter().map(|r| (r.calls[0].value - f64::from(u8::from(r.success))).abs()).sum::<f64>() / rollouts.len() as f64
    }

    /// The outcomes cannot be predicted from the states; a critic that judges the states it was fitted to predicts them nevertheless.
    #[test]
    fn a_state_is_not_judged_by_a_critic_that_has_seen_its_outcome() {
        let (config, mut trainer) = (PolicyConfig::default(), trainer());
        let directory = tempfile::tempdir().unwrap();
        let mut judged = |folds: usize| {
            let mut rollouts: Vec<Rollout> = (0..40).map(chance).collect();
            let config = PolicyConfig { critic_folds: folds, ..config.clone() };
            let report = fit_mira_critics(&mut trainer, &mut rollouts, &config, None, directory.path()).unwrap();
            assert_eq!((report.tasks.len(), report.tasks["7"]), (40, rollouts[7].calls[0].value));
            error(&rollouts)
        };
        let (own, cross) = (judged(1), judged(4));
        assert!(own < 0.35 && cross > 0.4, "{own} {cross}");
        assert!(Critic::load(&directory.path().join("potential")).is_ok());
    }

    /// The second round repeats the tasks of the first, whose critics have memorised them and must not judge them.
    #[test]
    fn a_task_that_occurs_again_is_judged_by_fresh_critics() {
        let (config, mut trainer) = (PolicyConfig::default(), trainer());
        let [first, second, third, none] = [0; 4].map(|_| tempfile::tempdir().unwrap());
        let mut round = |tasks: std::ops::Range<u32>, earlier: Option<&Path>, out: &Path| {
            let mut rollouts: Vec<Rollout> = tasks.map(chance).collect();
            fit_mira_critics(&mut trainer, &mut rollouts, &config, earlier, out).unwrap();
            error(&rollouts)
        };
        round(0..40, None, first.path());
        let again = round(0..40, Some(first.path()), second.path());
        assert!(again > 0.4, "{again}");
        // Without the list of tasks any task may have been seen, so fresh critics judge all of them.
        std::fs::remove_file(first.path().join(fitted_tasks::TASKS)).unwrap();
        assert!(round(0..40, Some(first.path()), second.path()) > 0.4);
        // New tasks are added to the list, and a round that left no critics counts as none.
        round(40..60, Some(second.path()), third.path());
        let FittedTasks::Tasks(tasks) = FittedTasks::load(third.path()).unwrap() else { panic!("no tasks") };
        assert_eq!(tasks.len(), 60);
        round(0..8, Some(&none.path().join("critics")), first.path());
        assert!(matches!(FittedTasks::load(first.path()).unwrap(), FittedTasks::Tasks(tasks) if tasks.len() == 8));
    }

    /// The prompt determines the reward of a task: the critic learns it from other tasks whose prompt has the same token.
    #[test]
    fn returns_are_estimated_on_their_own_scale() {
        let (config, mut trainer) = (PolicyConfig::default(), trainer());
        let pays = |i: u32| if i.is_multiple_of(2) { 3.0 } else { -1.0 };
        let rollout = |i: u32| Rollout {
            group: i.to_string(),
            reward: pays(i),
            calls: vec![ModelCall { prompt: vec![2, 5 + i % 2], ..Default::default() }],
            ..Default::default()
        };
        let mut rollouts: Vec<Rollout> = (0..40).map(rollout).collect();
        let directory = tempfile::tempdir().unwrap();
        let report = fit_return_critic(&mut trainer, &mut rollouts, &config, directory.path()).unwrap();
        let worst = rollouts.iter().map(|r| (r.calls[0].value - r.reward).abs()).fold(0.0, f64::max);
        assert!(worst < 0.8, "{worst}");
        let fit = report.value.unwrap();
        assert!(fit.held_out < fit.held_out_base, "{fit:?}");
    }
}
