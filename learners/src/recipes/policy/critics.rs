//! MiRA's and PPO's critics on the policy's own trunk: fitted to the episodes at hand, and asked about each of their states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{PolicyConfig, Rollout};
use crate::critic::{Critic, CriticConfig, CriticFit};
use crate::{Error, Result, Trainer, files};

/// How the critics were fitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CriticReport {
    /// MiRA's value critic: cross-entropy with the outcome, nats. PPO's: squared error of the returns, brought to 0 to 1.
    pub value: Option<CriticFit>,
    /// The potential critic: squared error of the progress; `None` where no progress is known.
    pub potential: Option<CriticFit>,
    /// What the value critic gives each task at its first state: the mean over its episodes.
    #[serde(default)]
    pub tasks: BTreeMap<String, f64>,
}

/// The file beside the critics that names the tasks that they were fitted to, in this update or one before.
const TASKS: &str = "tasks.json";

/// Where a state stands among the tasks.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The part of the tasks that it belongs to.
    part: usize,
    /// Whether an earlier critic was fitted to its task.
    known: bool,
}

/// One critic's data: a state's features, what it should say there, and its place.
struct Data {
    features: Vec<Vec<f32>>,
    targets: Vec<f64>,
    places: Vec<Place>,
}

/// The critic that a fit goes on from, and a fresh one: an earlier critic has seen the outcomes of the tasks that come again, and a fresh one judges those.
struct Critics {
    begun: Critic,
    fresh: Critic,
}

/// Fits both critics and writes their estimates into the calls. They go on from those in `earlier`, and are kept in `directory`.
///
/// A state is judged by a critic that was fitted to the other tasks only: one that has seen a state's own outcome repeats it, and leaves no
/// advantage (cross-fitting: Chernozhukov et al. 2018, section 3). A task that the earlier critics were fitted to (a replayed success, say) is judged
/// by critics that begin anew.
///
/// # Errors
/// A critic of another model, or one whose loss is not finite.
pub fn estimate(
    trainer: &mut Trainer,
    rollouts: &mut [Rollout],
    config: &PolicyConfig,
    earlier: Option<&Path>,
    directory: &Path,
) -> Result<CriticReport> {
    let mut known = earlier.map_or(Ok(Known::None), known)?;
    let (features, places) = states(trainer, rollouts, config.critic_folds, &known)?;
    let width = trainer.model().config.hidden_size;
    let begin = |name: &str, fresh: Critic| -> Result<Critics> {
        let begun = match earlier.map(|earlier| earlier.join(name)) {
            Some(earlier) if earlier.exists() => Critic::load(&earlier)?,
            _ => fresh.clone(),
        };
        Ok(Critics { begun, fresh })
    };
    let value = begin("value", Critic::value(width, &config.critic)?)?;
    let potential = begin("potential", Critic::potential(width, &config.critic)?)?;
    let calls = || rollouts.iter().flat_map(|rollout| rollout.turns.iter().map(move |turn| (rollout, turn)));
    let outcomes = Data {
        features: features.clone(),
        targets: calls().map(|(rollout, _)| f64::from(u8::from(rollout.success))).collect(),
        places: places.clone(),
    };
    let labelled = |(index, (rollout, turn)): (usize, (&Rollout, &super::Turn))| {
        let label = turn.progress.filter(|_| rollout.success || config.potential_from_failures)?;
        Some((features[index].clone(), label, places[index]))
    };
    let mut progress = Data { features: Vec::new(), targets: Vec::new(), places: Vec::new() };
    for (state, label, place) in calls().enumerate().filter_map(labelled) {
        progress.features.push(state);
        progress.targets.push(label);
        progress.places.push(place);
    }
    let (value_fit, values) = cross_fit(value, &outcomes, &features, &places, config, &directory.join("value"))?;
    let (potential_fit, potentials) = cross_fit(potential, &progress, &features, &places, config, &directory.join("potential"))?;
    known.add(rollouts);
    known.write(directory)?;
    let estimates = values.into_iter().zip(potentials);
    for (turn, (value, potential)) in rollouts.iter_mut().flat_map(|rollout| &mut rollout.turns).zip(estimates) {
        // Without labels there is no potential, rather than one half everywhere.
        (turn.value, turn.potential) = (value, if potential_fit.is_some() { potential } else { 0.0 });
    }
    Ok(CriticReport { value: value_fit, potential: potential_fit, tasks: first_values(rollouts) })
}

/// Fits PPO's critic to what was earned from each call on, and writes its estimates into the calls; a state is judged by critics of the other
/// tasks, as in [`estimate`]. It begins anew with every update: returns of another policy, on another scale, would only mislead it.
///
/// # Errors
/// A critic whose loss is not finite.
pub fn estimate_returns(trainer: &mut Trainer, rollouts: &mut [Rollout], config: &PolicyConfig, directory: &Path) -> Result<CriticReport> {
    let (features, places) = states(trainer, rollouts, config.critic_folds, &Known::None)?;
    let returns: Vec<f64> = rollouts.iter().flat_map(|rollout| rollout.returns(config.gae.gamma)).collect();
    let (low, high) = returns.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let span = if high > low { high - low } else { 1.0 };
    let targets = returns.iter().map(|x| (x - low) / span).collect();
    let data = Data { features: features.clone(), targets, places: places.clone() };
    let fresh = Critic::potential(trainer.model().config.hidden_size, &config.critic)?;
    let critics = Critics { begun: fresh.clone(), fresh };
    let (value, estimates) = cross_fit(critics, &data, &features, &places, config, &directory.join("returns"))?;
    for (turn, estimate) in rollouts.iter_mut().flat_map(|rollout| &mut rollout.turns).zip(estimates) {
        turn.value = low + span * estimate;
    }
    Ok(CriticReport { value, potential: None, tasks: BTreeMap::new() })
}

/// The value of each task's first state, its episodes' mean.
fn first_values(rollouts: &[Rollout]) -> BTreeMap<String, f64> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (group, first) in rollouts.iter().filter_map(|rollout| Some((&rollout.group[..], rollout.turns.first()?))) {
        values.entry(group).or_default().push(first.value);
    }
    values.into_iter().map(|(group, values)| (group.to_owned(), values.iter().sum::<f64>() / values.len() as f64)).collect()
}

/// The tasks that earlier critics were fitted to.
#[derive(Debug)]
enum Known {
    /// There are no earlier critics.
    None,
    /// These.
    Tasks(BTreeSet<String>),
    /// Nobody wrote them down: any task may be among them.
    Unwritten,
}

impl Known {
    fn has(&self, task: &str) -> bool {
        match self {
            Self::None => false,
            Self::Tasks(tasks) => tasks.contains(task),
            Self::Unwritten => true,
        }
    }

    fn add(&mut self, rollouts: &[Rollout]) {
        let new = rollouts.iter().map(|rollout| rollout.group.clone());
        match self {
            Self::None => *self = Self::Tasks(new.collect()),
            Self::Tasks(tasks) => tasks.extend(new),
            Self::Unwritten => {}
        }
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let Self::Tasks(tasks) = self else { return Ok(()) };
        let path = directory.join(TASKS);
        files::replace(&path, serde_json::to_string(tasks).map_err(Error::json(&path))?.as_bytes())
    }
}

/// What the critics in a directory were fitted to.
fn known(directory: &Path) -> Result<Known> {
    let path = directory.join(TASKS);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Known::Tasks(serde_json::from_str(&text).map_err(Error::json(&path))?)),
        // A round that taught nothing leaves no critics at all.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(if directory.join("value").exists() { Known::Unwritten } else { Known::None })
        }
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// The hidden state of every call, and its place: tasks go to the parts in turn, so that a task lies in one part whole.
fn states(trainer: &mut Trainer, rollouts: &[Rollout], folds: usize, known: &Known) -> Result<(Vec<Vec<f32>>, Vec<Place>)> {
    let prompts: Vec<&[u32]> = rollouts.iter().flat_map(|rollout| rollout.turns.iter().map(|turn| &turn.prompt[..])).collect();
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places = Vec::with_capacity(prompts.len());
    for rollout in rollouts {
        let next = order.len();
        let part = *order.entry(&rollout.group).or_insert(next) % folds.max(1);
        places.extend(std::iter::repeat_n(Place { part, known: known.has(&rollout.group) }, rollout.turns.len()));
    }
    Ok((trainer.hidden(&prompts)?, places))
}

/// What critics fitted to the other parts say of every state; the critic of all of them is saved.
///
/// They are fitted for as many passes as made those others' judgement best: a critic that is fitted for longer repeats its own tasks, and is
/// as sure as wrong about all others.
fn cross_fit(
    critics: Critics,
    data: &Data,
    states: &[Vec<f32>],
    places: &[Place],
    config: &PolicyConfig,
    directory: &Path,
) -> Result<(Option<CriticFit>, Vec<f64>)> {
    let folds = config.critic_folds.max(1);
    let mut whole = critics.begun.clone();
    if data.features.is_empty() {
        whole.save(directory)?;
        return Ok((None, vec![0.0; states.len()]));
    }
    // With one fold there is nobody else to learn from: the critic of all judges.
    if folds == 1 {
        let fit = whole.fit(&data.features, &data.targets, &config.critic)?;
        whole.save(directory)?;
        return Ok((Some(fit), states.iter().map(|state| whole.predict(state)).collect::<Result<_>>()?));
    }
    // `[pass][state]`, and the summed loss of each pass over the states with a target; the first is before any.
    let mut estimates = vec![vec![0.0; states.len()]; config.critic.epochs + 1];
    let mut losses = vec![0.0; config.critic.epochs + 1];
    for (part, again) in (0..folds).flat_map(|part| [(part, false), (part, true)]) {
        let of = |places: &[Place]| -> Vec<usize> {
            (0..places.len()).filter(|i| places[*i].part == part && places[*i].known == again).collect()
        };
        let (own, held_out) = (of(places), of(&data.places));
        if own.is_empty() {
            continue;
        }
        let (features, targets): (Vec<_>, Vec<_>) =
            (0..data.places.len()).filter(|i| data.places[*i].part != part).map(|i| (data.features[i].clone(), data.targets[i])).unzip();
        let mut ask = |pass: usize, judge: &Critic| {
            for i in &own {
                estimates[pass][*i] = judge.predict(&states[*i])?;
            }
            for i in &held_out {
                losses[pass] += judge.loss_of(judge.predict(&data.features[*i])?, data.targets[*i]);
            }
            Ok(())
        };
        let mut judge = if again { critics.fresh.clone() } else { critics.begun.clone() };
        ask(0, &judge)?;
        if features.is_empty() {
            (1..=config.critic.epochs).try_for_each(|pass| ask(pass, &judge))?;
        } else {
            judge.fit_watched(&features, &targets, &config.critic, |epoch, judge| ask(epoch + 1, judge))?;
        }
    }
    let best = (1..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap_or(1);
    let count = data.targets.len() as f64;
    let fit = whole.fit(&data.features, &data.targets, &CriticConfig { epochs: best, ..config.critic.clone() })?;
    whole.save(directory)?;
    let mean = data.targets.iter().sum::<f64>() / count;
    let base = data.targets.iter().map(|target| whole.loss_of(mean, *target)).sum::<f64>() / count;
    let fit = CriticFit { held_out: Some(losses[best] / count), held_out_base: Some(base), ..fit };
    Ok((Some(fit), estimates.swap_remove(best)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::LoraConfig;
    use crate::model::Storage;
    use crate::recipes::policy::Turn;
    use crate::{Model, ModelConfig};

    fn trainer() -> Trainer {
        let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1, ..ModelConfig::seed(64, 0, 1) };
        let lora = LoraConfig { rank: 2, ..Default::default() };
        Trainer::lora(Model::random(shape, 3).unwrap(), lora, Storage::F32, 1, PolicyConfig::default().optimizer()).unwrap()
    }

    /// A rollout whose outcome nothing in its state foretells.
    fn chance(i: u32) -> Rollout {
        Rollout {
            group: i.to_string(),
            success: i.is_multiple_of(2),
            turns: vec![Turn { prompt: vec![2, (i * 37) % 60 + 2, (i * 11) % 59 + 3], progress: Some(0.5), ..Default::default() }],
            ..Default::default()
        }
    }

    /// How far the value critic is off, on average.
    fn error(rollouts: &[Rollout]) -> f64 {
        rollouts.iter().map(|r| (r.turns[0].value - f64::from(u8::from(r.success))).abs()).sum::<f64>() / rollouts.len() as f64
    }

    /// Outcomes that nothing in a state foretells: a critic that judges what it was fitted to believes that it knows them.
    #[test]
    fn a_state_is_not_judged_by_a_critic_that_has_seen_its_outcome() {
        let (config, mut trainer) = (PolicyConfig::default(), trainer());
        let directory = tempfile::tempdir().unwrap();
        let mut judged = |folds: usize| {
            let mut rollouts: Vec<Rollout> = (0..40).map(chance).collect();
            let config = PolicyConfig { critic_folds: folds, ..config.clone() };
            let report = estimate(&mut trainer, &mut rollouts, &config, None, directory.path()).unwrap();
            assert_eq!((report.tasks.len(), report.tasks["7"]), (40, rollouts[7].turns[0].value));
            error(&rollouts)
        };
        let (own, cross) = (judged(1), judged(4));
        assert!(own < 0.35 && cross > 0.4, "{own} {cross}");
        assert!(Critic::load(&directory.path().join("potential")).is_ok());
    }

    /// A second round in which the tasks of the first come again: its critics know them by heart, and may not judge them.
    #[test]
    fn a_task_that_comes_again_is_judged_by_critics_that_begin_anew() {
        let (config, mut trainer) = (PolicyConfig::default(), trainer());
        let [first, second, third, none] = [0; 4].map(|_| tempfile::tempdir().unwrap());
        let mut round = |tasks: std::ops::Range<u32>, earlier: Option<&Path>, out: &Path| {
            let mut rollouts: Vec<Rollout> = tasks.map(chance).collect();
            estimate(&mut trainer, &mut rollouts, &config, earlier, out).unwrap();
            error(&rollouts)
        };
        round(0..40, None, first.path());
        let again = round(0..40, Some(first.path()), second.path());
        assert!(again > 0.4, "{again}");
        // Without the list of its tasks nothing tells which they are: all are judged anew.
        std::fs::remove_file(first.path().join(TASKS)).unwrap();
        assert!(round(0..40, Some(first.path()), second.path()) > 0.4);
        // New tasks are known from then on, and a round that left no critics is none.
        round(40..60, Some(second.path()), third.path());
        let Known::Tasks(tasks) = known(third.path()).unwrap() else { panic!("no tasks") };
        assert_eq!(tasks.len(), 60);
        round(0..8, Some(&none.path().join("critics")), first.path());
        assert!(matches!(known(first.path()).unwrap(), Known::Tasks(tasks) if tasks.len() == 8));
    }

    /// What a task pays is told by its prompt: the critic learns it from other tasks that begin with the same token.
    #[test]
    fn returns_are_estimated_in_their_own_units() {
        let (config, mut trainer) = (PolicyConfig::default(), trainer());
        let pays = |i: u32| if i.is_multiple_of(2) { 3.0 } else { -1.0 };
        let rollout = |i: u32| Rollout {
            group: i.to_string(),
            reward: pays(i),
            turns: vec![Turn { prompt: vec![2, 5 + i % 2], ..Default::default() }],
            ..Default::default()
        };
        let mut rollouts: Vec<Rollout> = (0..40).map(rollout).collect();
        let directory = tempfile::tempdir().unwrap();
        let report = estimate_returns(&mut trainer, &mut rollouts, &config, directory.path()).unwrap();
        let worst = rollouts.iter().map(|r| (r.turns[0].value - r.reward).abs()).fold(0.0, f64::max);
        assert!(worst < 0.8, "{worst}");
        let fit = report.value.unwrap();
        assert!(fit.held_out < fit.held_out_base, "{fit:?}");
    }
}
