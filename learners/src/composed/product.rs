//! Matrix products, among them one with a frozen matrix that computes no gradient for the matrix.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Device, Layout, MetalStorage, Result, Shape, Tensor};

use crate::ops::matmul::Precision;

/// Returns the number type of matrix products on a device: single precision on the CPU, because candle has no bf16 products there.
pub(super) fn dtype(precision: Precision, device: &Device) -> DType {
    match (precision, device) {
        (Precision::F32, _) | (_, Device::Cpu) => DType::F32,
        (Precision::Bf16, _) => DType::BF16,
    }
}

/// Computes `a b` over the last two axes with products in `dtype`, and returns it in single precision.
pub(super) fn matmul(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    a.to_dtype(dtype)?.matmul(&b.to_dtype(dtype)?)?.to_dtype(DType::F32)
}

/// Computes `x Wᵀ` with products in `dtype`, and returns it in single precision. `x` `[rows, inputs]` gets a gradient, and so does `w`
/// `[outputs, inputs]` if it is a variable.
pub(super) fn linear(x: &Tensor, w: &Tensor, dtype: DType) -> Result<Tensor> {
    if w.is_variable() {
        return matmul(x, &w.t()?, dtype);
    }
    x.to_dtype(dtype)?.contiguous()?.apply_op2(&w.to_dtype(dtype)?, FrozenLinear)?.to_dtype(DType::F32)
}

/// The operation `x Wᵀ` without a gradient of `W`. candle's own product computes the gradients of both factors, whether they are needed or not.
struct FrozenLinear;

impl FrozenLinear {
    fn forward<S: BackendStorage>(x: &S, x_layout: &Layout, w: &S, w_layout: &Layout) -> Result<(S, Shape)> {
        let ((rows, inputs), (outputs, _)) = (x_layout.shape().dims2()?, w_layout.shape().dims2()?);
        let product = x.matmul(w, (1, rows, outputs, inputs), x_layout, &w_layout.transpose(0, 1)?)?;
        Ok((product, (rows, outputs).into()))
    }
}

impl CustomOp2 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout, w: &CpuStorage, w_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::forward(x, x_layout, w, w_layout)
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_layout: &Layout, w: &CudaStorage, w_layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::forward(x, x_layout, w, w_layout)
    }

    fn metal_fwd(&self, x: &MetalStorage, x_layout: &Layout, w: &MetalStorage, w_layout: &Layout) -> Result<(MetalStorage, Shape)> {
        Self::forward(x, x_layout, w, w_layout)
    }

    fn bwd(&self, _x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(dy.contiguous()?.matmul(w)?), None))
    }
}
