//! Products, and the one with a frozen matrix, which has no gradient for it.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Device, Layout, MetalStorage, Result, Shape, Tensor};

use crate::ops::matmul::Precision;

/// The numbers that products are computed in: candle's CPU has no products in bf16.
pub(super) fn numbers(precision: Precision, device: &Device) -> DType {
    match (precision, device) {
        (Precision::F32, _) | (_, Device::Cpu) => DType::F32,
        (Precision::Bf16, _) => DType::BF16,
    }
}

/// `a b` over the last two axes, computed in `numbers` and given in single precision.
pub(super) fn times(a: &Tensor, b: &Tensor, numbers: DType) -> Result<Tensor> {
    a.to_dtype(numbers)?.matmul(&b.to_dtype(numbers)?)?.to_dtype(DType::F32)
}

/// `x Wᵀ` in single precision, with gradients of `x` `[rows, inputs]` and, where it is trained, of `w` `[outputs, inputs]`.
pub(super) fn linear(x: &Tensor, w: &Tensor, numbers: DType) -> Result<Tensor> {
    if w.is_variable() {
        return times(x, &w.t()?, numbers);
    }
    x.to_dtype(numbers)?.contiguous()?.apply_op2(&w.to_dtype(numbers)?, Frozen)?.to_dtype(DType::F32)
}

/// `x Wᵀ` without a gradient of `W`: candle's own product computes one for both factors, whoever needs it.
struct Frozen;

impl Frozen {
    fn forward<S: BackendStorage>(x: &S, x_layout: &Layout, w: &S, w_layout: &Layout) -> Result<(S, Shape)> {
        let ((rows, inputs), (outputs, _)) = (x_layout.shape().dims2()?, w_layout.shape().dims2()?);
        let product = x.matmul(w, (1, rows, outputs, inputs), x_layout, &w_layout.transpose(0, 1)?)?;
        Ok((product, (rows, outputs).into()))
    }
}

impl CustomOp2 for Frozen {
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
