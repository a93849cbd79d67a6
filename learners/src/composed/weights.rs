//! The copies of a model's weights on a device.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::model::Model;
use crate::model::low_rank::Projection;

/// The tensors that are not trained, by the start of their range in the layout; they are copied only once.
pub(super) type FrozenTensors = BTreeMap<usize, Tensor>;

/// The weights of a model.
pub(super) struct Weights {
    pub frozen: FrozenTensors,
    /// The embedding `[V, C]`.
    pub embedding: Tensor,
    /// The range of the embedding in the flat slice, if it is trained.
    pub trained_embedding: Option<Range<usize>>,
    /// The output matrix `[V, C]`.
    pub head: Tensor,
    /// The weight of the last norm `[C]`.
    pub final_norm: Tensor,
    /// The trained tensors among the output matrix and the last norm, with their ranges in the flat slice.
    pub trained_end: Vec<(Range<usize>, Tensor)>,
    pub layers: Vec<LayerWeights>,
    /// The cosines of the rotation angles of every position `[positions, D / 2]`.
    pub cos: Tensor,
    /// The sines of the same angles.
    pub sin: Tensor,
}

/// The weights of one transformer layer.
pub(super) struct LayerWeights {
    pub input_norm: Tensor,
    pub q_norm: Option<Tensor>,
    pub k_norm: Option<Tensor>,
    pub post_norm: Tensor,
    pub q: Linear,
    pub kv: Linear,
    pub o: Linear,
    pub gate_up: Linear,
    pub down: Linear,
    /// The trained tensors of the layer, with their ranges in the flat slice.
    pub trained: Vec<(Range<usize>, Tensor)>,
}

/// The weights of a linear layer.
pub(super) struct Linear {
    /// The weight `[outputs, inputs]`.
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    /// The adapter modules beside the layer.
    pub adapter: Vec<LowRank>,
    /// The factor that the updates of the adapter are scaled by.
    pub scale: f64,
}

/// One adapter module of a linear layer.
pub(super) struct LowRank {
    /// The columns of the output that the update is added to.
    pub outputs: Range<usize>,
    /// The factor `A` `[rank, inputs]`.
    pub a: Tensor,
    /// The factor `B` `[outputs, rank]`.
    pub b: Tensor,
}

impl Weights {
    /// Copies a model to the device; frozen tensors that `frozen` holds already are not copied again.
    pub(super) fn upload(model: &Model, device: &Device, frozen: FrozenTensors) -> Result<Self> {
        let mut source = Source { model, device, frozen, trained: Vec::new() };
        let (config, layout) = (&model.config, &model.params.layout);
        let (c, vocabulary) = (config.hidden_size, config.vocab_size);
        let layers = (0..config.num_hidden_layers).map(|layer| source.layer(layer)).collect::<Result<_>>()?;
        let final_norm = source.parameter(&layout.final_norm, &[c])?;
        let head = source.parameter(&layout.head, &[vocabulary, c])?;
        let trained_end = std::mem::take(&mut source.trained);
        let trained_embedding = (!source.is_frozen()).then(|| layout.embedding.clone());
        // The gradient of the embedding is computed from the gradient of the first layer's input, not by candle's graph.
        let embedding =
            if layout.embedding == layout.head { head.detach() } else { source.parameter(&layout.embedding, &[vocabulary, c])?.detach() };
        let (cos, sin, half) = model.rope.tables();
        let table = |x: &[f32]| Tensor::from_slice(x, (x.len() / half, half), device);
        let (cos, sin) = (table(cos)?, table(sin)?);
        Ok(Self { frozen: source.frozen, embedding, trained_embedding, head, final_norm, trained_end, layers, cos, sin })
    }
}

/// The state of an upload: the model and the device, and the copies that were made.
struct Source<'a> {
    model: &'a Model,
    device: &'a Device,
    frozen: FrozenTensors,
    /// The trained tensors that were copied since the list was last taken.
    trained: Vec<(Range<usize>, Tensor)>,
}

impl Source<'_> {
    /// Returns whether the model's own parameters are frozen.
    fn is_frozen(&self) -> bool {
        self.model.adapter.is_some() || !self.model.params.frozen.is_empty()
    }

    fn layer(&mut self, layer: usize) -> Result<LayerWeights> {
        let at = &self.model.params.layout.layers[layer];
        let config = &self.model.config;
        let heads = config.heads();
        let (c, i, d) = (config.hidden_size, config.intermediate_size, heads.head_dim);
        let (q, kv) = (heads.heads * d, heads.kv_heads * d);
        const NONE: &Range<usize> = &(0..0);
        let weights = LayerWeights {
            input_norm: self.parameter(&at.input_norm, &[c])?,
            q_norm: self.optional(&at.q_norm)?,
            k_norm: self.optional(&at.k_norm)?,
            post_norm: self.parameter(&at.post_norm, &[c])?,
            q: self.linear(layer, Projection::Q, (&at.q, &[q, c]), &at.q_bias)?,
            kv: self.linear(layer, Projection::Kv, (&at.kv, &[2 * kv, c]), &at.kv_bias)?,
            o: self.linear(layer, Projection::O, (&at.o, &[c, q]), NONE)?,
            gate_up: self.linear(layer, Projection::GateUp, (&at.gate_up, &[2 * i, c]), NONE)?,
            down: self.linear(layer, Projection::Down, (&at.down, &[c, i]), NONE)?,
            trained: Vec::new(),
        };
        Ok(LayerWeights { trained: std::mem::take(&mut self.trained), ..weights })
    }

    fn linear(
        &mut self,
        layer: usize,
        projection: Projection,
        (range, shape): (&Range<usize>, &[usize]),
        bias: &Range<usize>,
    ) -> Result<Linear> {
        let (weight, bias) = (self.parameter(range, shape)?, self.optional(bias)?);
        let model = self.model;
        let Some(adapter) = &model.adapter else { return Ok(Linear { weight, bias, adapter: Vec::new(), scale: 0.0 }) };
        let factors = adapter.layer(layer);
        let modules = factors.modules.iter().filter(|module| module.projection == projection);
        let updates = modules.map(|module| {
            let a = self.variable(&module.a, &adapter.data, &[factors.rank, shape[1]])?;
            let b = self.variable(&module.b, &adapter.data, &[module.outputs.len(), factors.rank])?;
            Ok(LowRank { outputs: module.outputs.clone(), a, b })
        });
        Ok(Linear { weight, bias, adapter: updates.collect::<Result<_>>()?, scale: f64::from(factors.scale) })
    }

    /// Copies a vector that not all models have; `None` if its range is empty.
    fn optional(&mut self, range: &Range<usize>) -> Result<Option<Tensor>> {
        if range.is_empty() { Ok(None) } else { self.parameter(range, &[range.len()]).map(Some) }
    }

    /// Returns a parameter on the device: a variable if the parameters are trained, otherwise a copy that is made only once.
    fn parameter(&mut self, range: &Range<usize>, shape: &[usize]) -> Result<Tensor> {
        let model = self.model;
        if !self.is_frozen() {
            return self.variable(range, &model.params.data, shape);
        }
        if let Some(tensor) = self.frozen.get(&range.start) {
            return Ok(tensor.clone());
        }
        let tensor = match model.params.frozen.get(&range.start) {
            Some(matrix) => {
                let mut weights = vec![0.0; range.len()];
                matrix.expand(0..range.len(), &mut weights);
                Tensor::from_vec(weights, shape, self.device)?.to_dtype(DType::BF16)?
            }
            None => Tensor::from_slice(&model.params.data[range.clone()], shape, self.device)?,
        };
        self.frozen.insert(range.start, tensor.clone());
        Ok(tensor)
    }

    /// Copies a trained tensor to the device as a variable.
    fn variable(&mut self, range: &Range<usize>, data: &[f32], shape: &[usize]) -> Result<Tensor> {
        let tensor = Var::from_slice(&data[range.clone()], shape, self.device)?.into_inner();
        self.trained.push((range.clone(), tensor.clone()));
        Ok(tensor)
    }
}
