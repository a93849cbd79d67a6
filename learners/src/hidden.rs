//! What the model knows after a prompt: the trunk's last hidden state, for the critics.

use crate::trainer::{Ask, Worker};
use crate::{Error, Result, Sequence, Trainer};

impl Trainer {
    /// The normalised hidden state `[C]` behind the last token of each prompt, under the policy as it is; nothing is trained.
    ///
    /// Prompts that begin alike share the work of their beginning.
    ///
    /// # Errors
    /// A prompt that is empty, too long, or holds a token that the vocabulary does not.
    pub fn hidden(&mut self, prompts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        if let Some(index) = prompts.iter().position(|prompt| prompt.is_empty()) {
            return Err(Error::Batch { index, problem: "the prompt is empty; there is no token to read a state at".into() });
        }
        let sequences: Vec<Sequence> = prompts.iter().map(|prompt| asking(prompt)).collect();
        let width = self.model().config.hidden_size;
        let found = self.run(&sequences, Ask::Hidden, |worker| states(worker, width))?;
        let mut hidden = vec![Vec::new(); prompts.len()];
        for (index, state) in found {
            hidden[index] = state;
        }
        Ok(hidden)
    }
}

/// The prompt with the prediction behind its last token needed; which token stands there does not matter.
fn asking(prompt: &[u32]) -> Sequence {
    let mut weights = vec![0.0; prompt.len()];
    weights.push(1.0);
    Sequence { tokens: [prompt, &[0]].concat(), weights, ..Default::default() }
}

/// The needed row of every sequence of the latest micro-batch.
fn states(worker: &Worker, width: usize) -> Vec<(usize, Vec<f32>)> {
    let rows = worker.workspace.normed.chunks_exact(width);
    worker.packed.sequences.iter().copied().zip(rows.map(<[f32]>::to_vec)).collect()
}
