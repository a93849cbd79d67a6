//! A second implementation of the model, composed of candle's differentiable operations, for devices on which the crate's own kernels do not run.
//!
//! candle silently drops gradients in its fused operations (softmax, norm and rotary positions of candle-nn), so everything here is composed of
//! primitive operations. candle also computes the gradients of frozen weights, so products with them are an operation of their own
//! ([`product`]). Each layer is a graph of its own, whose backward pass starts from the gradient of its output: the saved activations are those
//! of the layers' graphs, or with recomputation only the layers' inputs. The formulas are documented at the crate's own kernels; tests check that
//! the two implementations agree.

mod attention;
mod device;
mod gradients;
mod head;
mod layer;
mod operations;
mod packed;
mod product;
#[cfg(test)]
mod tests;
mod weights;

use candle_core::{Device, Tensor, Var};

pub(crate) use gradients::DeviceGradients;

use crate::device::DeviceKind;
use crate::model::{Model, Packed, Workspace};
use crate::{Error, Result};
use layer::Context;
use packed::Input;
use weights::Weights;

/// A model on a device: the copies of its weights there, and its forward and backward pass.
///
/// Parameters, adapters and the optimiser's moments stay in main memory. The copies on the device are renewed after a step has changed them.
pub(crate) struct DeviceModel {
    kind: DeviceKind,
    device: Device,
    weights: Option<Weights>,
    state: State,
}

/// Whether the device's copies of the trained tensors are up to date.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Stale,
}

/// The tensors that a layer saves for its backward pass.
struct SavedLayer {
    /// The input of the layer, as a variable so that it gets a gradient.
    input: Tensor,
    /// The output of the layer with its graph; `None` if it is computed again in the backward pass.
    out: Option<Tensor>,
}

/// The tensors that the forward pass saves for the backward pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Save {
    Nothing,
    /// The input of each layer.
    Inputs,
    /// The graph of each layer.
    Graphs,
}

impl DeviceModel {
    /// Opens a device; returns `None` for [`DeviceKind::Cpu`], on which the crate's own kernels compute.
    ///
    /// # Errors
    /// This build or this machine does not have the device, or it does not start.
    pub(crate) fn open(kind: DeviceKind) -> Result<Option<Self>> {
        Ok(device::open(kind)?.map(|device| Self { kind, device, weights: None, state: State::Stale }))
    }

    /// Returns the kind of the device.
    pub(crate) fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Marks the device's copies of the trained tensors as outdated.
    pub(crate) fn mark_stale(&mut self) {
        self.state = State::Stale;
    }

    /// Copies to the device the weights that it does not have: all weights at first, later the trained tensors if they have changed.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn sync(&mut self, model: &Model) -> Result<()> {
        if self.state == State::Stale {
            let frozen = self.weights.take().map(|weights| weights.frozen).unwrap_or_default();
            self.weights = Some(Weights::upload(model, &self.device, frozen).map_err(Error::device)?);
            self.state = State::Fresh;
        }
        Ok(())
    }

    /// Computes the normalised hidden state of each needed row and writes it to `workspace.normed` `[M, C]`.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn hidden(&self, model: &Model, packed: &Packed, workspace: &mut Workspace) -> Result<()> {
        self.with_weights(|weights| {
            let input = Input::new(model, weights, packed, &self.device)?;
            let (x, _) = forward(&self.context(model, weights, &input), Save::Nothing)?;
            let normed = operations::rms_norm(&x, &weights.final_norm, model.config.rms_norm_eps)?;
            workspace.normed = normed.flatten_all()?.to_vec1()?;
            Ok(())
        })
    }

    /// Scores every needed row and writes the scores to `workspace.scores`.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn score(&self, model: &Model, packed: &Packed, workspace: &mut Workspace) -> Result<()> {
        self.with_weights(|weights| {
            let input = Input::new(model, weights, packed, &self.device)?;
            let ctx = self.context(model, weights, &input);
            let (x, _) = forward(&ctx, Save::Nothing)?;
            workspace.scores = head::score(&ctx, &x, packed)?;
            Ok(())
        })
    }

    /// Scores every needed row, writes the scores to `workspace.scores`, and adds the gradient of
    /// `Σ (weight * -logprob + entropy_weight * -entropy)` to `device_gradients`.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn forward_backward(
        &self,
        model: &Model,
        packed: &Packed,
        workspace: &mut Workspace,
        device_gradients: &mut DeviceGradients,
    ) -> Result<()> {
        self.with_weights(|weights| {
            let input = Input::new(model, weights, packed, &self.device)?;
            let ctx = self.context(model, weights, &input);
            let (x, saved) = forward(&ctx, if model.recompute { Save::Inputs } else { Save::Graphs })?;
            let (scores, mut dx) = head::cross_entropy(&ctx, &x, packed, device_gradients)?;
            workspace.scores = scores;
            for (layer, saved) in saved.into_iter().enumerate().rev() {
                let out = saved.out.map_or_else(|| layer::forward(&ctx, layer, &saved.input), Ok)?;
                let mut store = (out * dx)?.sum_all()?.backward()?;
                device_gradients.take(&weights.layers[layer].trained, &mut store)?;
                dx = gradients::gradient(&mut store, &saved.input)?;
            }
            if let Some(range) = &weights.trained_embedding {
                device_gradients.add(range, weights.embedding.zeros_like()?.index_add(&input.tokens, &dx, 0)?)?;
            }
            Ok(())
        })
    }

    /// Computes with the device's copies of the weights.
    fn with_weights(&self, compute: impl FnOnce(&Weights) -> candle_core::Result<()>) -> Result<()> {
        match &self.weights {
            Some(weights) => compute(weights).map_err(Error::device),
            None => Err(Error::Device("nothing was copied to it".into())),
        }
    }

    fn context<'a>(&self, model: &'a Model, weights: &'a Weights, input: &'a Input) -> Context<'a> {
        Context { config: &model.config, weights, input, dtype: product::dtype(model.precision, &self.device) }
    }
}

/// Computes all layers; returns the output of the last one `[M, C]`, and the tensors that the backward pass needs.
fn forward(ctx: &Context<'_>, save: Save) -> candle_core::Result<(Tensor, Vec<SavedLayer>)> {
    let mut saved = Vec::new();
    let mut x = ctx.weights.embedding.detach().index_select(&ctx.input.tokens, 0)?;
    for layer in 0..ctx.weights.layers.len() {
        let input = if save == Save::Nothing { x } else { Var::from_tensor(&x)?.into_inner() };
        let out = layer::forward(ctx, layer, &input)?;
        x = out.detach();
        if save != Save::Nothing {
            saved.push(SavedLayer { input, out: (save == Save::Graphs).then_some(out) });
        }
    }
    Ok((x, saved))
}
