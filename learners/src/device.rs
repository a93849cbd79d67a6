//! The kinds of device that a model can be trained on.

use serde::{Deserialize, Serialize};

/// A kind of device that a model can be trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor, with the kernels of this crate.
    #[default]
    Cpu,
    /// The first NVIDIA GPU, in a build with the feature `cuda`.
    Cuda,
    /// The GPU of an Apple machine, in a build with the feature `metal`.
    Metal,
    /// The processor, with the candle operations that `cuda` and `metal` use, in a build with the feature `gpu-training`. It is slower than
    /// `cpu` and serves to compare the two implementations.
    CandleCpu,
}
