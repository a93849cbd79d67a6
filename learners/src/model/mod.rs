//! The trainable model: its configuration, its parameters, its packed input, and its way forward and back.

mod config;
mod layer;
mod packed;
mod params;
mod qwen3;
mod store;

pub use config::ModelConfig;
pub use packed::Packed;
pub(crate) use packed::input_len;
pub use params::{Layout, Params, Role, Tensor};
pub use qwen3::{Demand, Model, Workspace};
pub use store::{read_tensors, write_tensors};
