//! Replay of successful episodes from earlier rounds (WebRL, 2411.02337, section 2.3; MiRA, 2603.19685, section 3.5).

use super::config::PolicyConfig;
use super::rollout::{ModelCall, Rollout};
use crate::replay::{ReplayBuffer, Replayed, perplexity};
use crate::{Result, Sequence, Trainer};

/// Draws the calls of `memory` (oldest episode first) that are trained on again: the calls of successes whose perplexity under the current
/// policy lies in the band, limited by [`crate::replay::ReplayConfig::times_current`] times the `current` number of calls. The other calls
/// of these episodes stay in the rollouts, because advantages need them, but are not trained.
///
/// # Errors
/// The configuration is invalid, or an episode does not fit this model.
pub fn replay(trainer: &mut Trainer, memory: Vec<Rollout>, current: usize, config: &PolicyConfig) -> Result<Vec<Rollout>> {
    let mut buffer: ReplayBuffer<usize> = ReplayBuffer::new(config.replay.clone())?;
    for (index, rollout) in memory.iter().enumerate() {
        buffer.push(index, &rollout.group, rollout.success);
    }
    // `[rollout][call][token]`: log-probabilities of the completions under the current policy; empty for failures.
    let mut scores: Vec<Vec<Vec<f32>>> = Vec::with_capacity(memory.len());
    for (index, rollout) in memory.iter().enumerate() {
        for call in &rollout.calls {
            call.check(index)?;
        }
        let sequences: Vec<Sequence> = rollout.calls.iter().map(ModelCall::sequence).collect();
        let of_sequences = if rollout.success { trainer.logprobs(&sequences)? } else { Vec::new() };
        scores.push(of_sequences.into_iter().zip(&rollout.calls).map(|(list, call)| list[call.prompt.len()..].to_vec()).collect());
    }
    buffer.rescore(|index| {
        let calls = memory[*index].calls.iter().zip(&scores[*index]);
        let of_trained = |(call, scores): (&ModelCall, &Vec<f32>)| {
            let trained: Vec<f32> = scores.iter().zip(&call.trained).filter(|(_, trained)| **trained).map(|(score, _)| *score).collect();
            perplexity(&trained)
        };
        Ok::<_, crate::Error>(calls.map(of_trained).collect())
    })?;
    let drawn = buffer.sample(current, config.seed);
    let rebuild = |replayed: &Replayed<'_, usize>| {
        let mut rollout = Rollout { replayed: true, ..memory[*replayed.id].clone() };
        for (at, call) in rollout.calls.iter_mut().enumerate() {
            if !replayed.pieces.contains(&at) {
                call.trained.fill(false);
            }
            // Ratios are taken to the current policy: the recorded log-probabilities are those of an older one, and their difference to the
            // trainer's would not measure the engine's accuracy.
            call.old_logprobs.clone_from(&scores[*replayed.id][at]);
        }
        rollout
    };
    Ok(drawn.iter().map(rebuild).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::LoraConfig;
    use crate::model::Storage;
    use crate::{Model, ModelConfig};

    #[test]
    fn only_calls_of_successes_in_the_band_are_replayed_with_scores_of_the_current_policy() {
        let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1, ..ModelConfig::seed(64, 0, 1) };
        let lora = LoraConfig { rank: 2, ..Default::default() };
        let mut config = PolicyConfig::default();
        let mut trainer = Trainer::lora(Model::random(shape, 3).unwrap(), lora, Storage::F32, 1, config.optimizer()).unwrap();
        let call = |mask: u32| ModelCall {
            prompt: vec![2, 3, 4],
            completion: vec![10],
            trained: vec![true],
            masks: vec![Some([mask, 0].into())],
            old_logprobs: vec![-9.0],
            ..Default::default()
        };
        // With two allowed tokens the perplexity is near 2; with one it is 1, below the band.
        let rollout = |group: &str, success: bool| Rollout {
            group: group.into(),
            success,
            calls: vec![call(1 << 10 | 1 << 11), call(1 << 10)],
            ..Default::default()
        };
        config.replay.most_perplexity = 3.0;
        let memory = vec![rollout("a", true), rollout("b", false), rollout("a", true)];
        let again = replay(&mut trainer, memory.clone(), 10, &config).unwrap();
        assert!(again.iter().all(|rollout| rollout.replayed));
        assert_eq!(again.len(), 1, "the newest success of a task, and no failure");
        let trained: Vec<bool> = again[0].calls.iter().map(|call| call.trained[0]).collect();
        assert_eq!(trained, [true, false]);
        assert!((again[0].calls[0].old_logprobs[0] + 0.69).abs() < 0.3, "{:?}", again[0].calls[0].old_logprobs);
        assert!(replay(&mut trainer, memory, 0, &config).unwrap().is_empty());
    }
}
