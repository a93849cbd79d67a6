//! Merging: the adapter's update added to the weights that it stands beside.

use super::Adapter;
use crate::Result;
use crate::model::linear::Site;
use crate::model::{Model, Params};
use crate::ops::matmul::{Mat, MatMut, Precision, Write, matmul};

impl Adapter {
    /// `W += scale · B A` for every adapted layer.
    fn add_to(&self, params: &mut Params) {
        for (places, at) in self.layers.iter().zip(&params.layout.layers) {
            for place in places {
                let weight = match place.site {
                    Site::Q => &at.q,
                    Site::Kv => &at.kv,
                    Site::O => &at.o,
                    Site::GateUp => &at.gate_up,
                    Site::Down => &at.down,
                };
                let (rank, outputs) = (self.config.rank, place.outputs.len());
                let inputs = place.a.len() / rank;
                let start = weight.start + place.outputs.start * inputs;
                let out = MatMut::new(&mut params.data[start..start + outputs * inputs], outputs, inputs);
                let (a, b) = (Mat::new(&self.data[place.a.clone()], rank, inputs), Mat::new(&self.data[place.b.clone()], outputs, rank));
                matmul(Precision::F32, out, b, a, self.scale(), Write::Add);
            }
        }
    }
}

impl Model {
    /// The same model with its adapter merged into its weights; without one, itself.
    ///
    /// # Errors
    /// A model whose linear weights are kept in a smaller type.
    pub fn merged(mut self) -> Result<Self> {
        self.params.check_whole()?;
        if let Some(adapter) = self.adapter.take() {
            adapter.add_to(&mut self.params);
        }
        Ok(self)
    }
}
