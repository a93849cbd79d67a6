//! Opening of the device that a model is trained on.

use candle_core::Device;

use crate::device::DeviceKind;
use crate::{Error, Result};

/// Opens a device; returns `None` for [`DeviceKind::Cpu`], on which the crate's own kernels compute.
///
/// # Errors
/// This build or this machine does not have the device, or it does not start.
pub(super) fn open(kind: DeviceKind) -> Result<Option<Device>> {
    let refuse = |problem: String| Error::Config { key: "device", problem };
    let absent = |name: &str, how: &str| refuse(format!("this build has no {name}; build one with {how}, or set `device: cpu`"));
    let failed = |name: &str, error: candle_core::Error| {
        refuse(format!("{name} does not start ({error}); see that the driver works, or set `device: cpu`"))
    };
    match kind {
        DeviceKind::Cpu => Ok(None),
        DeviceKind::CandleCpu => Ok(Some(Device::Cpu)),
        DeviceKind::Cuda if !candle_core::utils::cuda_is_available() => {
            Err(absent("CUDA", "`make cuda`, or `cargo build --features cuda` where CUDA is installed"))
        }
        DeviceKind::Cuda => Device::new_cuda(0).map(Some).map_err(|error| failed("CUDA", error)),
        DeviceKind::Metal if !candle_core::utils::metal_is_available() => Err(absent("Metal", "`cargo build --features metal` on a Mac")),
        DeviceKind::Metal => Device::new_metal(0).map(Some).map_err(|error| failed("Metal", error)),
    }
}
