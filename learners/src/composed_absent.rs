//! Replaces the module `composed` in a build without the feature `gpu-training`: no device except the processor can be opened.

use crate::device::DeviceKind;
use crate::model::{Model, Packed, Workspace};
use crate::{Error, Result};

/// A model on a device; this build has none, so no value of this type exists.
pub(crate) enum DeviceModel {}

/// The gradients that accumulate on a device; this build has no device.
#[derive(Default)]
pub(crate) struct DeviceGradients {}

impl DeviceModel {
    /// Returns `None` for the processor and refuses every other device.
    ///
    /// # Errors
    /// `kind` is not the processor.
    pub(crate) fn open(kind: DeviceKind) -> Result<Option<Self>> {
        let feature = match kind {
            DeviceKind::Cpu => return Ok(None),
            DeviceKind::Cuda => "cuda",
            DeviceKind::Metal => "metal",
            DeviceKind::CandleCpu => "gpu-training",
        };
        let problem =
            format!("this build trains on the processor only; build with `cargo build --features {feature}`, or set `device: cpu`");
        Err(Error::Config { key: "device", problem })
    }

    /// Returns the kind of the device.
    pub(crate) fn kind(&self) -> DeviceKind {
        match *self {}
    }

    /// Marks the device's copies of the trained tensors as outdated.
    pub(crate) fn mark_stale(&mut self) {
        match *self {}
    }

    /// Copies to the device the weights that it does not have.
    pub(crate) fn sync(&mut self, _: &Model) -> Result<()> {
        match *self {}
    }

    /// Computes the normalised hidden state of each needed row.
    pub(crate) fn hidden(&self, _: &Model, _: &Packed, _: &mut Workspace) -> Result<()> {
        match *self {}
    }

    /// Scores every needed row.
    pub(crate) fn score(&self, _: &Model, _: &Packed, _: &mut Workspace) -> Result<()> {
        match *self {}
    }

    /// Scores every needed row and adds the gradient to the device's gradients.
    pub(crate) fn forward_backward(&self, _: &Model, _: &Packed, _: &mut Workspace, _: &mut DeviceGradients) -> Result<()> {
        match *self {}
    }
}

impl DeviceGradients {
    /// Adds nothing, because there is no device with gradients.
    pub(crate) fn move_to(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
}
