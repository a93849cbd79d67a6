//! MiRA's critics on the policy's own trunk: fitted to the episodes at hand, and asked about each of their states.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{PolicyConfig, Rollout};
use crate::critic::{Critic, CriticFit};
use crate::{Result, Trainer};

/// How the critics were fitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CriticReport {
    /// The value critic: cross-entropy with the outcome, nats.
    pub value: Option<CriticFit>,
    /// The potential critic: squared error of the progress; `None` where no progress is known.
    pub potential: Option<CriticFit>,
}

/// Fits both critics and writes their estimates into the calls. They go on from those in `earlier`, and are kept in `directory`.
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
    let prompts: Vec<&[u32]> = rollouts.iter().flat_map(|rollout| rollout.turns.iter().map(|turn| &turn.prompt[..])).collect();
    let features = trainer.hidden(&prompts)?;
    let width = trainer.model().config.hidden_size;
    let begin = |name: &str, fresh: &dyn Fn() -> Result<Critic>| match earlier.map(|earlier| earlier.join(name)) {
        Some(earlier) if earlier.exists() => Critic::load(&earlier),
        _ => fresh(),
    };
    let mut value = begin("value", &|| Critic::value(width, &config.critic))?;
    let mut potential = begin("potential", &|| Critic::potential(width, &config.critic))?;
    let mut report = CriticReport::default();
    let states = || rollouts.iter().flat_map(|rollout| rollout.turns.iter().map(move |turn| (rollout.success, turn.progress)));
    let outcomes: Vec<f64> = states().map(|(success, _)| f64::from(u8::from(success))).collect();
    if !features.is_empty() {
        report.value = Some(value.fit(&features, &outcomes, &config.critic)?);
    }
    let known = states().zip(&features).filter_map(|((success, progress), state)| {
        let label = progress.filter(|_| success || config.potential_from_failures)?;
        Some((state.clone(), label))
    });
    let (known, labels): (Vec<Vec<f32>>, Vec<f64>) = known.unzip();
    if !known.is_empty() {
        report.potential = Some(potential.fit(&known, &labels, &config.critic)?);
    }
    let fitted = report.potential.is_some();
    for (turn, state) in rollouts.iter_mut().flat_map(|rollout| &mut rollout.turns).zip(&features) {
        turn.value = value.predict(state)?;
        turn.potential = if fitted { potential.predict(state)? } else { 0.0 };
    }
    value.save(&directory.join("value"))?;
    potential.save(&directory.join("potential"))?;
    Ok(report)
}
