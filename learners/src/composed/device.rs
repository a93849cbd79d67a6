//! Which device a model is trained on.

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a model is trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor, with the kernels of this crate.
    #[default]
    Cpu,
    /// The first NVIDIA GPU, in a build with the feature `cuda`.
    Cuda,
    /// Apple's GPU, in a build with the feature `metal`.
    Metal,
    /// The processor, with the operations that `cuda` and `metal` use: slower than `cpu`, for comparing.
    CandleCpu,
}

impl DeviceKind {
    /// Opens the device; `None` for the crate's own kernels.
    pub(super) fn open(self) -> Result<Option<Device>> {
        let refuse = |problem: String| Error::Config { key: "device", problem };
        let absent = |name: &str, how: &str| refuse(format!("this build has no {name}; build one with {how}, or set `device: cpu`"));
        let failed = |name: &str, error: candle_core::Error| {
            refuse(format!("{name} does not start ({error}); see that the driver works, or set `device: cpu`"))
        };
        match self {
            Self::Cpu => Ok(None),
            Self::CandleCpu => Ok(Some(Device::Cpu)),
            Self::Cuda if !candle_core::utils::cuda_is_available() => {
                Err(absent("CUDA", "`make cuda`, or `cargo build --features cuda` where CUDA is installed"))
            }
            Self::Cuda => Device::new_cuda(0).map(Some).map_err(|error| failed("CUDA", error)),
            Self::Metal if !candle_core::utils::metal_is_available() => Err(absent("Metal", "`cargo build --features metal` on a Mac")),
            Self::Metal => Device::new_metal(0).map(Some).map_err(|error| failed("Metal", error)),
        }
    }
}
