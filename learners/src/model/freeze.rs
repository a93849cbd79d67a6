//! Freezing: keeping the linear weights of a model in a compact number format.

use super::Storage;
use super::params::{Params, Tensor};
use crate::ops::frozen::FrozenMatrix;
use crate::{Error, Result};

impl Params {
    /// Converts the linear weights to `storage` for good; from then on they cannot be trained, only adapters beside them.
    ///
    /// # Errors
    /// The storage is Q8_0 and a width is no multiple of 32, or it is Q4_K and a width is no multiple of 256.
    pub(crate) fn freeze(&mut self, storage: Storage) -> Result<()> {
        if storage == Storage::F32 || !self.frozen.is_empty() {
            return Ok(());
        }
        let matrices = self.layout.tensors.iter().position(|tensor| tensor.range.start >= self.layout.matrices);
        check_widths(storage, matrices.map_or(&[], |first| &self.layout.tensors[first..]))?;
        let ranges = self.layout.layers.iter().flat_map(|at| [&at.q, &at.kv, &at.o, &at.gate_up, &at.down]);
        self.frozen = ranges.map(|range| (range.start, FrozenMatrix::new(&self.data[range.clone()], storage))).collect();
        self.data.truncate(self.layout.matrices);
        self.data.shrink_to_fit();
        Ok(())
    }

    /// Checks that the linear weights are in single precision.
    ///
    /// # Errors
    /// The linear weights are stored in a compact format.
    pub(crate) fn check_not_frozen(&self) -> Result<()> {
        match self.frozen.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::Config { key: "base", problem: "the weights are kept in a smaller type; load the model again in f32".into() })
            }
        }
    }

    /// Returns the size of the linear weights in bytes.
    pub fn linear_bytes(&self) -> usize {
        match self.frozen.is_empty() {
            true => 4 * (self.layout.len() - self.layout.matrices),
            false => self.frozen.values().map(FrozenMatrix::bytes).sum(),
        }
    }
}

/// Checks that the rows of every matrix are whole blocks of `storage`.
fn check_widths(storage: Storage, tensors: &[Tensor]) -> Result<()> {
    let block = storage.block();
    let Some(odd) = tensors.iter().find(|tensor| tensor.shape[1] % block != 0) else { return Ok(()) };
    let (name, wanted, width) =
        if storage == Storage::Q4K { ("q4_k", "q8_0 or bf16", odd.shape[1]) } else { ("q8_0", "bf16", odd.shape[1]) };
    let problem = format!("{name} needs widths that are multiples of {block}, and `{}` is {width} wide; use {wanted}", odd.name);
    Err(Error::Config { key: "base", problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, LoraConfig, LoraInit};
    use crate::model::{Model, Packed, Workspace};
    use crate::{ModelConfig, Precision, Sequence};

    #[test]
    fn rows_that_are_not_whole_blocks_are_refused_by_name() {
        let config = ModelConfig { hidden_size: 256, intermediate_size: 288, num_hidden_layers: 1, ..ModelConfig::seed(8, 0, 1) };
        for (intermediate_size, storage, reason) in [
            (288, Storage::Q8_0, None),
            (256, Storage::Q4K, None),
            (288, Storage::Q4K, Some("multiples of 256, and `model.layers.0.mlp.down_proj.weight` is 288 wide; use q8_0 or bf16")),
            (272, Storage::Q8_0, Some("multiples of 32, and `model.layers.0.mlp.down_proj.weight` is 272 wide; use bf16")),
        ] {
            let mut params = Params::random(&ModelConfig { intermediate_size, ..config.clone() }, 1);
            match (params.freeze(storage), reason) {
                (Ok(()), None) => {}
                (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}"),
                (result, _) => panic!("{storage:?}, {intermediate_size}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_weights_that_are_read() {
        let config = ModelConfig { intermediate_size: 256, num_hidden_layers: 2, ..ModelConfig::seed(40, 0, 1) };
        let mut whole = Model::random(config, 5).unwrap();
        whole.precision = Precision::F32;
        whole.adapter = Some(Adapter::fresh(LoraConfig { rank: 4, ..Default::default() }, &whole.config, 2, LoraInit::Random).unwrap());
        let sequence = Sequence { tokens: (0..30).map(|i| i * 13 % 37).collect(), weights: vec![1.0; 30], ..Default::default() };
        let mut packed = Packed::default();
        packed.push(0, &sequence);
        let gradient = |model: &Model| {
            let mut grads = vec![0.0; model.trained().len()];
            model.forward_backward(&packed, &mut Workspace::default(), &mut grads);
            grads
        };
        let mut small = whole.clone();
        small.freeze(Storage::Q4K).unwrap();
        let share = small.params.linear_bytes() as f64 / whole.params.linear_bytes() as f64;
        assert!((share - 0.1406).abs() < 1e-4, "{share}");
        let (got, exact) = (gradient(&small), gradient(&whole));
        for at in &whole.params.layout.layers {
            for range in [&at.q, &at.kv, &at.o, &at.gate_up, &at.down] {
                small.params.frozen[&range.start].expand(0..range.len(), &mut whole.params.data[range.clone()]);
            }
        }
        let want = gradient(&whole);
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let off = |a: &[f32]| norm(&mut a.iter().zip(&want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied());
        assert!(off(&got) < 1e-5 && off(&exact) > 1e-3, "{} {}", off(&got), off(&exact));
    }
}
