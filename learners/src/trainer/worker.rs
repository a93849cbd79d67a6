//! One core's share of a batch.

use super::Scored;
use crate::Result;
use crate::composed::{Composed, Sums};
use crate::model::{Model, Packed, Workspace};
use crate::ops::head::Exact;

/// One core's share: its memory and its gradient.
#[derive(Default)]
pub(crate) struct Worker {
    pub workspace: Workspace,
    pub packed: Packed,
    /// As long as what is trained, once there is a gradient.
    pub grads: Vec<f32>,
    /// What a device has of the gradient.
    pub sums: Sums,
}

/// What a micro-batch is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `workspace.normed`.
    Hidden,
    /// `workspace.scores`.
    Scores,
    /// Scores and gradient.
    Gradient,
}

/// What one worker found out about one sequence.
pub(super) struct Findings {
    pub index: usize,
    /// `-Σ weight * logprob`.
    pub loss: f64,
    pub exact: Option<bool>,
    /// Each needed token by its position.
    pub tokens: Vec<(usize, Scored)>,
}

impl Worker {
    /// Takes the micro-batch through the model, here or on a device.
    pub(super) fn compute(&mut self, model: &Model, composed: Option<&Composed>, ask: Ask) -> Result<()> {
        let Self { workspace, packed, grads, sums } = self;
        match (composed, ask) {
            (None, Ask::Hidden) => model.hidden(packed, workspace),
            (None, Ask::Scores) => model.score(packed, workspace),
            (None, Ask::Gradient) => model.forward_backward(packed, workspace, grads),
            (Some(device), Ask::Hidden) => device.hidden(model, packed, workspace)?,
            (Some(device), Ask::Scores) => device.score(model, packed, workspace)?,
            (Some(device), Ask::Gradient) => device.forward_backward(model, packed, workspace, sums)?,
        }
        Ok(())
    }

    /// What the latest micro-batch said about its sequences.
    pub(super) fn findings(&self) -> Vec<Findings> {
        let packed = &self.packed;
        let spans = packed.row_spans.iter().zip(&packed.sequences);
        let findings = spans.map(|(span, &index)| {
            let mut s = Findings { index, loss: 0.0, exact: None, tokens: Vec::with_capacity(span.queries.len()) };
            for row in span.queries.clone() {
                let (score, weight) = (self.workspace.scores[row], packed.weights[row]);
                s.loss -= f64::from(weight) * f64::from(score.logprob);
                if weight >= 1.0 {
                    s.exact = Some(s.exact.unwrap_or(true) && score.exact == Exact::Yes);
                }
                let token = Scored { logprob: score.logprob, entropy: score.entropy };
                s.tokens.push((packed.row_positions[row] as usize + 1, token));
            }
            s
        });
        findings.collect()
    }
}
