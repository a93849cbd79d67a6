//! The operations of the model, forward and backward, as pure functions on `f32` slices.
//!
//! Every function uses one core: the trainer runs one worker per core, each on its own sequences, so that no operation needs a barrier. Shapes
//! are row-major and written in brackets; `N` is the number of tokens, `M` the number of query rows, `C` the width.

#[cfg(all(feature = "amx", target_arch = "x86_64", target_os = "linux"))]
mod amx;
pub mod attention;
pub mod embedding;
pub(crate) mod frozen;
pub mod head;
pub mod linear;
pub mod matmul;
pub mod matrix;
pub mod norm;
mod q4k;
pub mod rope;
pub mod swiglu;
pub mod vector;

/// Grows a buffer to at least `len` elements and returns its first `len` elements, whose content is unspecified.
pub fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
