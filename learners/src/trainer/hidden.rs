//! The model's hidden states after prompts, which the critics take as features.

use super::Trainer;
use super::worker::{Pass, Worker};
use crate::sequence::Sequence;
use crate::{Error, Result};

impl Trainer {
    /// Computes the normalised hidden state `[C]` after the last token of each prompt, under the current policy; nothing is trained.
    ///
    /// The common prefix of prompts is computed once.
    ///
    /// # Errors
    /// A prompt is empty or too long, or holds a token that is not in the vocabulary.
    pub fn hidden(&mut self, prompts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        if let Some(index) = prompts.iter().position(|prompt| prompt.is_empty()) {
            return Err(Error::Batch { index, problem: "the prompt is empty; there is no token to read a state at".into() });
        }
        let sequences: Vec<Sequence> = prompts.iter().map(|prompt| with_needed_prediction(prompt)).collect();
        let width = self.model().config.hidden_size;
        let found = self.compute(&sequences, Pass::HiddenStates, |worker| states(worker, width))?;
        let mut hidden = vec![Vec::new(); prompts.len()];
        for (index, state) in found {
            hidden[index] = state;
        }
        Ok(hidden)
    }
}

/// Returns the prompt with one more token, whose prediction is needed; which token it is does not matter.
fn with_needed_prediction(prompt: &[u32]) -> Sequence {
    let mut weights = vec![0.0; prompt.len()];
    weights.push(1.0);
    Sequence { tokens: [prompt, &[0]].concat(), weights, ..Default::default() }
}

/// Returns the hidden state of every sequence of the latest micro-batch, with the sequence's index in the batch.
fn states(worker: &Worker, width: usize) -> Vec<(usize, Vec<f32>)> {
    let rows = worker.workspace.normed.chunks_exact(width);
    worker.packed.sequences.iter().copied().zip(rows.map(<[f32]>::to_vec)).collect()
}
