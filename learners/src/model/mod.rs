//! The trainable model: its configuration, its parameters, its packed input, and its way forward and back.

mod config;
mod decoder;
pub(crate) mod frozen;
mod layer;
pub(crate) mod linear;
mod packed;
mod params;
mod q4k;
mod store;
mod transformer;

pub use config::{ModelConfig, RopeParameters, RopeScaling};
pub use decoder::{Decoder, Desk};
pub use frozen::Storage;
pub use packed::Packed;
pub(crate) use packed::{input_len, shared_len};
pub use params::{Layout, Params, Role, Tensor};
pub use store::{read_tensors, write_tensors};
pub use transformer::{Demand, MAX_TOKENS, Model, Workspace};
