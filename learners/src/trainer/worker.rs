//! A worker, which computes one core's share of a batch.

use super::batch::Scored;
use crate::Result;
use crate::composed::{DeviceGradients, DeviceModel};
use crate::model::{Model, Packed, Workspace};
use crate::ops::head::Exact;

/// The buffers and the gradient of one core's share of a batch.
#[derive(Default)]
pub(super) struct Worker {
    pub workspace: Workspace,
    pub packed: Packed,
    /// The accumulated gradient, with the length of [`Model::trained`]; empty before the first backward pass.
    pub grads: Vec<f32>,
    /// The part of the gradient that is still on the device.
    pub device_gradients: DeviceGradients,
}

/// The results that a pass over a micro-batch computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The hidden states, in `workspace.normed`.
    HiddenStates,
    /// The scores, in `workspace.scores`.
    Scores,
    /// The scores and the gradient.
    Gradient,
}

/// The scores of one sequence.
pub(super) struct SequenceResult {
    /// The index of the sequence in the batch.
    pub index: usize,
    /// The loss `-Σ weight * logprob`.
    pub loss: f64,
    /// Whether every token with a weight of at least 1 is the most likely one; `None` if there is no such token.
    pub exact: Option<bool>,
    /// The score of each needed token with its position.
    pub tokens: Vec<(usize, Scored)>,
}

impl Worker {
    /// Computes a pass over the micro-batch with the crate's own kernels, or on a device if there is one.
    ///
    /// # Errors
    /// The device failed.
    pub(super) fn compute(&mut self, model: &Model, device: Option<&DeviceModel>, pass: Pass) -> Result<()> {
        let Self { workspace, packed, grads, device_gradients } = self;
        match (device, pass) {
            (None, Pass::HiddenStates) => model.hidden(packed, workspace),
            (None, Pass::Scores) => model.score(packed, workspace),
            (None, Pass::Gradient) => model.forward_backward(packed, workspace, grads),
            (Some(device), Pass::HiddenStates) => device.hidden(model, packed, workspace)?,
            (Some(device), Pass::Scores) => device.score(model, packed, workspace)?,
            (Some(device), Pass::Gradient) => device.forward_backward(model, packed, workspace, device_gradients)?,
        }
        Ok(())
    }

    /// Returns the scores of the sequences of the latest micro-batch.
    pub(super) fn results(&self) -> Vec<SequenceResult> {
        let packed = &self.packed;
        let spans = packed.row_spans.iter().zip(&packed.sequences);
        let results = spans.map(|(span, &index)| {
            let mut result = SequenceResult { index, loss: 0.0, exact: None, tokens: Vec::with_capacity(span.queries.len()) };
            for row in span.queries.clone() {
                let (score, weight) = (self.workspace.scores[row], packed.weights[row]);
                result.loss -= f64::from(weight) * f64::from(score.logprob);
                if weight >= 1.0 {
                    result.exact = Some(result.exact.unwrap_or(true) && score.exact == Exact::Yes);
                }
                let token = Scored { logprob: score.logprob, entropy: score.entropy };
                result.tokens.push((packed.row_positions[row] as usize + 1, token));
            }
            result
        });
        results.collect()
    }
}
