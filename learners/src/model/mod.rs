//! The trainable model: its configuration, its parameters, its packed input, and its forward and backward pass.

mod config;
mod context;
mod decoder;
mod freeze;
mod layer;
mod linear;
pub(crate) mod low_rank;
mod packed;
mod params;
mod store;
mod transformer;

pub use crate::ops::frozen::Storage;
pub use config::{ModelConfig, RopeParameters, RopeScaling};
pub use decoder::{Decoder, DecoderScratch};
pub use packed::{OutputRows, Packed};
pub(crate) use packed::{input_len, shared_len};
pub use params::{Layout, Params, Role, Tensor};
pub use store::{read_tensors, write_tensors};
pub use transformer::{MAX_TOKENS, Model, Workspace};
