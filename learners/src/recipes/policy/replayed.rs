//! Successes of earlier rounds beside the current ones (WebRL, 2411.02337, section 2.3; MiRA, 2603.19685, section 3.5).

use super::{PolicyConfig, Rollout};
use crate::replay::{Replay, perplexity};
use crate::{Result, Sequence, Trainer};

/// Draws from `memory`, oldest first, what may be trained on again: of successes, the calls whose perplexity under the policy as it stands
/// lies in the band, at most so many times the `current` number of calls. Other calls of these episodes stay for their advantages, untrained.
///
/// # Errors
/// Episodes that do not belong to this model, or constants that leave no band.
pub fn replay(trainer: &mut Trainer, memory: Vec<Rollout>, current: usize, config: &PolicyConfig) -> Result<Vec<Rollout>> {
    let mut kept: Replay<usize> = Replay::new(config.replay.clone())?;
    for (index, rollout) in memory.iter().enumerate() {
        kept.push(index, &rollout.group, rollout.success);
    }
    let mut scores: Vec<Vec<Vec<f32>>> = Vec::with_capacity(memory.len());
    for (index, rollout) in memory.iter().enumerate() {
        for turn in &rollout.turns {
            turn.check(index)?;
        }
        let sequences: Vec<Sequence> = rollout.turns.iter().map(super::Turn::sequence).collect();
        let found = if rollout.success { trainer.logprobs(&sequences)? } else { Vec::new() };
        scores.push(found.into_iter().zip(&rollout.turns).map(|(list, turn)| list[turn.prompt.len()..].to_vec()).collect());
    }
    kept.rescore(|index| {
        let turns = memory[*index].turns.iter().zip(&scores[*index]);
        let of_trained = |(turn, scores): (&super::Turn, &Vec<f32>)| {
            let trained: Vec<f32> = scores.iter().zip(&turn.trained).filter(|(_, trained)| **trained).map(|(score, _)| *score).collect();
            perplexity(&trained)
        };
        Ok::<_, crate::Error>(turns.map(of_trained).collect())
    })?;
    let drawn = kept.sample(current, config.seed);
    let again = |one: &crate::replay::Replayed<'_, usize>| {
        let mut rollout = Rollout { replayed: true, ..memory[*one.id].clone() };
        for (at, turn) in rollout.turns.iter_mut().enumerate() {
            if !one.pieces.contains(&at) {
                turn.trained.fill(false);
            }
            // The policy that is replayed from is the one that learns: what another one sampled with says nothing about the engine.
            turn.old_logprobs.clone_from(&scores[*one.id][at]);
        }
        rollout
    };
    Ok(drawn.iter().map(again).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::LoraConfig;
    use crate::model::Storage;
    use crate::recipes::policy::Turn;
    use crate::{Model, ModelConfig};

    #[test]
    fn only_calls_of_successes_within_the_band_come_again_with_scores_of_today() {
        let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1, ..ModelConfig::seed(64, 0, 1) };
        let lora = LoraConfig { rank: 2, ..Default::default() };
        let mut config = PolicyConfig::default();
        let mut trainer = Trainer::lora(Model::random(shape, 3).unwrap(), lora, Storage::F32, 1, config.optimizer()).unwrap();
        let turn = |mask: u32| Turn {
            prompt: vec![2, 3, 4],
            completion: vec![10],
            trained: vec![true],
            masks: vec![Some([mask, 0].into())],
            old_logprobs: vec![-9.0],
            ..Default::default()
        };
        // Two allowed tokens: a perplexity near 2. One: a perplexity of 1, known already.
        let rollout = |group: &str, success: bool| Rollout {
            group: group.into(),
            success,
            turns: vec![turn(1 << 10 | 1 << 11), turn(1 << 10)],
            ..Default::default()
        };
        config.replay.most_perplexity = 3.0;
        let memory = vec![rollout("a", true), rollout("b", false), rollout("a", true)];
        let again = replay(&mut trainer, memory.clone(), 10, &config).unwrap();
        assert!(again.iter().all(|rollout| rollout.replayed));
        assert_eq!(again.len(), 1, "the newest success of a task, and no failure");
        let trained: Vec<bool> = again[0].turns.iter().map(|turn| turn.trained[0]).collect();
        assert_eq!(trained, [true, false]);
        assert!((again[0].turns[0].old_logprobs[0] + 0.69).abs() < 0.3, "{:?}", again[0].turns[0].old_logprobs);
        assert!(replay(&mut trainer, memory, 0, &config).unwrap().is_empty());
    }
}
