//! Merging: adding an adapter's update to the weights of its model.

use super::Adapter;
use crate::Result;
use crate::model::low_rank::Projection;
use crate::model::{Model, Params};
use crate::ops::matmul::{Mat, MatMut, Precision, Write, matmul};

impl Adapter {
    /// Computes `W += scale · B A` for every linear layer that has an adapter.
    fn add_to(&self, params: &mut Params) {
        for (modules, at) in self.layers.iter().zip(&params.layout.layers) {
            for module in modules {
                let weight = match module.projection {
                    Projection::Q => &at.q,
                    Projection::Kv => &at.kv,
                    Projection::O => &at.o,
                    Projection::GateUp => &at.gate_up,
                    Projection::Down => &at.down,
                };
                let (rank, outputs) = (self.config.rank, module.outputs.len());
                let inputs = module.a.len() / rank;
                let start = weight.start + module.outputs.start * inputs;
                let out = MatMut::new(&mut params.data[start..start + outputs * inputs], outputs, inputs);
                let (a, b) = (Mat::new(&self.data[module.a.clone()], rank, inputs), Mat::new(&self.data[module.b.clone()], outputs, rank));
                matmul(Precision::F32, out, b, a, self.scale(), Write::Add);
            }
        }
    }
}

impl Model {
    /// Returns the model with its adapter merged into its weights; a model without an adapter is returned unchanged.
    ///
    /// # Errors
    /// The linear weights are frozen in a compact format.
    pub fn merged(mut self) -> Result<Self> {
        self.params.check_not_frozen()?;
        if let Some(adapter) = self.adapter.take() {
            adapter.add_to(&mut self.params);
        }
        Ok(self)
    }
}
