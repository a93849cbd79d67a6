//! The same model as composed, differentiable operations of candle, for the devices that the crate's own kernels do not run on.
//!
//! candle drops gradients silently in its fused operations (softmax, norm and rotary positions of candle-nn), so everything here is made of
//! primitive ones; and it computes the gradients of frozen weights, so their products are an operation of their own ([`product`]).
//! Each layer is a graph of its own, entered with the gradient of its output: what is kept is what one layer needs, and with
//! recomputation only its input. What every number means is said where the own kernels are; the tests hold the two to each other.

mod device;
mod head;
mod layer;
mod operations;
mod packed;
mod product;
mod sums;
#[cfg(test)]
mod tests;
mod weights;

use candle_core::{Device, Tensor, Var};

pub use device::DeviceKind;
pub(crate) use sums::Sums;

use crate::model::{Model, Packed, Workspace};
use crate::{Error, Result};
use layer::Context;
use packed::Input;
use weights::Weights;

/// A model's weights on a device, and its way forward and back there.
///
/// Parameters, adapters and moments stay where they are: this holds copies, made again after they have moved.
pub(crate) struct Composed {
    kind: DeviceKind,
    device: Device,
    weights: Option<Weights>,
    state: State,
}

/// Whether the copies of what is trained are those of the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Stale,
}

/// What a layer leaves behind for its way back.
struct Kept {
    /// A variable, so that it gets a gradient.
    input: Tensor,
    /// The end of the layer's graph; `None` where it is computed again.
    out: Option<Tensor>,
}

/// What is kept of the way forward.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Inputs,
    Graphs,
}

impl Composed {
    /// Opens a device; `None` for the crate's own kernels.
    pub(crate) fn open(kind: DeviceKind) -> Result<Option<Self>> {
        Ok(kind.open()?.map(|device| Self { kind, device, weights: None, state: State::Stale }))
    }

    /// The device's name.
    pub(crate) fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Says that what is trained has moved.
    pub(crate) fn moved(&mut self) {
        self.state = State::Stale;
    }

    /// Copies to the device what it does not hold: everything at first, later what is trained and has moved.
    pub(crate) fn sync(&mut self, model: &Model) -> Result<()> {
        if self.state == State::Stale {
            let frozen = self.weights.take().map(|weights| weights.frozen).unwrap_or_default();
            self.weights = Some(Weights::upload(model, &self.device, frozen).map_err(Error::Device)?);
            self.state = State::Fresh;
        }
        Ok(())
    }

    /// The normalised hidden state of each needed row, to `workspace.normed` `[M, C]`.
    pub(crate) fn hidden(&self, model: &Model, packed: &Packed, workspace: &mut Workspace) -> Result<()> {
        self.with(|weights| {
            let input = Input::new(model, weights, packed, &self.device)?;
            let (x, _) = forward(&self.context(model, weights, &input), Keep::Nothing)?;
            let normed = operations::rms_norm(&x, &weights.final_norm, model.config.rms_norm_eps)?;
            workspace.normed = normed.flatten_all()?.to_vec1()?;
            Ok(())
        })
    }

    /// Scores every needed row into `workspace.scores`.
    pub(crate) fn score(&self, model: &Model, packed: &Packed, workspace: &mut Workspace) -> Result<()> {
        self.with(|weights| {
            let input = Input::new(model, weights, packed, &self.device)?;
            let ctx = self.context(model, weights, &input);
            let (x, _) = forward(&ctx, Keep::Nothing)?;
            workspace.scores = head::score(&ctx, &x, packed)?;
            Ok(())
        })
    }

    /// Scores every needed row and adds the gradient of `Σ (weight * -logprob + entropy_weight * -entropy)` to `sums`.
    pub(crate) fn forward_backward(&self, model: &Model, packed: &Packed, workspace: &mut Workspace, sums: &mut Sums) -> Result<()> {
        self.with(|weights| {
            let input = Input::new(model, weights, packed, &self.device)?;
            let ctx = self.context(model, weights, &input);
            let (x, kept) = forward(&ctx, if model.recompute { Keep::Inputs } else { Keep::Graphs })?;
            let (scores, mut dx) = head::cross_entropy(&ctx, &x, packed, sums)?;
            workspace.scores = scores;
            for (layer, kept) in kept.into_iter().enumerate().rev() {
                let out = kept.out.map_or_else(|| layer::forward(&ctx, layer, &kept.input), Ok)?;
                let mut gradients = (out * dx)?.sum_all()?.backward()?;
                sums.take(&weights.layers[layer].trained, &mut gradients)?;
                dx = sums::gradient(&mut gradients, &kept.input)?;
            }
            if let Some(range) = &weights.trained_embedding {
                sums.add(range, weights.embedding.zeros_like()?.index_add(&input.tokens, &dx, 0)?)?;
            }
            Ok(())
        })
    }

    fn with(&self, compute: impl FnOnce(&Weights) -> candle_core::Result<()>) -> Result<()> {
        match &self.weights {
            Some(weights) => compute(weights).map_err(Error::Device),
            None => Err(Error::Device(candle_core::Error::msg("nothing was copied to it"))),
        }
    }

    fn context<'a>(&self, model: &'a Model, weights: &'a Weights, input: &'a Input) -> Context<'a> {
        Context { config: &model.config, weights, input, numbers: product::numbers(model.precision, &self.device) }
    }
}

/// Runs all layers; their last output `[M, C]`, and what the way back needs.
fn forward(ctx: &Context<'_>, keep: Keep) -> candle_core::Result<(Tensor, Vec<Kept>)> {
    let mut kept = Vec::new();
    let mut x = ctx.weights.embedding.detach().index_select(&ctx.input.tokens, 0)?;
    for layer in 0..ctx.weights.layers.len() {
        let input = if keep == Keep::Nothing { x } else { Var::from_tensor(&x)?.into_inner() };
        let out = layer::forward(ctx, layer, &input)?;
        x = out.detach();
        if keep != Keep::Nothing {
            kept.push(Kept { input, out: (keep == Keep::Graphs).then_some(out) });
        }
    }
    Ok((x, kept))
}
