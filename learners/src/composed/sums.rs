//! Gradients that add up on the device until a batch is through.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

/// The gradient of each trained tensor, by where it begins in the flat slice.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<usize, Tensor>);

impl Sums {
    /// Adds a tensor's gradient.
    pub(super) fn add(&mut self, range: &Range<usize>, gradient: Tensor) -> Result<()> {
        let gradient = gradient.flatten_all()?.detach();
        let sum = match self.0.remove(&range.start) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        self.0.insert(range.start, sum);
        Ok(())
    }

    /// Adds the gradients of trained tensors.
    pub(super) fn take(&mut self, trained: &[(Range<usize>, Tensor)], gradients: &mut GradStore) -> Result<()> {
        trained.iter().try_for_each(|(range, tensor)| self.add(range, gradient(gradients, tensor)?))
    }

    /// Adds everything to the flat slice of gradients and begins again at nothing.
    pub(crate) fn move_to(&mut self, grads: &mut [f32]) -> crate::Result<()> {
        for (start, sum) in std::mem::take(&mut self.0) {
            let sum = sum.to_vec1::<f32>().map_err(crate::Error::Device)?;
            crate::ops::vector::add(&mut grads[start..start + sum.len()], &sum);
        }
        Ok(())
    }
}

/// A variable's gradient; one that is missing was dropped by an operation without a way back.
pub(super) fn gradient(gradients: &mut GradStore, of: &Tensor) -> Result<Tensor> {
    gradients.remove(of).ok_or_else(|| candle_core::Error::msg(format!("no gradient reached a tensor of shape {:?}", of.shape())))
}
