//! Gradients that accumulate on the device until a batch is done.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

/// The accumulated gradient of each trained tensor, by the start of the tensor's range in the flat slice.
#[derive(Default)]
pub(crate) struct DeviceGradients(BTreeMap<usize, Tensor>);

impl DeviceGradients {
    /// Adds the gradient of the trained tensor with this range.
    pub(super) fn add(&mut self, range: &Range<usize>, gradient: Tensor) -> Result<()> {
        let gradient = gradient.flatten_all()?.detach();
        let sum = match self.0.remove(&range.start) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        self.0.insert(range.start, sum);
        Ok(())
    }

    /// Moves the gradients of the trained tensors out of candle's store, and adds them.
    pub(super) fn take(&mut self, trained: &[(Range<usize>, Tensor)], gradients: &mut GradStore) -> Result<()> {
        trained.iter().try_for_each(|(range, tensor)| self.add(range, gradient(gradients, tensor)?))
    }

    /// Adds the accumulated gradients to the flat slice `grads`, and resets them.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn move_to(&mut self, grads: &mut [f32]) -> crate::Result<()> {
        for (start, sum) in std::mem::take(&mut self.0) {
            let sum = sum.to_vec1::<f32>().map_err(crate::Error::device)?;
            crate::ops::vector::add(&mut grads[start..start + sum.len()], &sum);
        }
        Ok(())
    }
}

/// Removes the gradient of a variable from candle's store.
///
/// # Errors
/// There is none: an operation without a backward pass dropped it.
pub(super) fn gradient(gradients: &mut GradStore, of: &Tensor) -> Result<Tensor> {
    gradients.remove(of).ok_or_else(|| candle_core::Error::msg(format!("no gradient reached a tensor of shape {:?}", of.shape())))
}
