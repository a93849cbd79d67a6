//! Operations of the model, forward and backward, as pure functions on `f32` slices.
//!
//! Every function works on one core: the trainer runs one worker per core, each on its own sequences, so no operation
//! needs a barrier. Shapes are row-major and written in brackets; `N` is tokens, `M` is query rows, `C` is the width.

#[cfg(all(feature = "amx", target_arch = "x86_64", target_os = "linux"))]
mod amx;
pub mod attention;
pub mod embedding;
pub mod head;
pub mod linear;
pub mod matmul;
pub mod norm;
pub mod rope;
pub mod swiglu;
pub mod vector;

/// Grows a buffer to at least `len` and returns exactly `len` elements of it, whose contents are unspecified.
pub fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
