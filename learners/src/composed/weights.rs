//! Copies of a model's weights on a device.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::model::Model;
use crate::model::linear::Site;

/// The parts that are never trained, by where they begin in the layout: they are copied once.
pub(super) type FrozenTensors = BTreeMap<usize, Tensor>;

/// All of a model.
pub(super) struct Weights {
    pub frozen: FrozenTensors,
    /// `[V, C]`
    pub embedding: Tensor,
    /// Its place, if it is trained.
    pub trained_embedding: Option<Range<usize>>,
    /// `[V, C]`
    pub head: Tensor,
    /// `[C]`
    pub final_norm: Tensor,
    /// What of head and last norm is trained.
    pub trained_end: Vec<(Range<usize>, Tensor)>,
    pub layers: Vec<LayerWeights>,
    /// Cosines and sines of every position `[positions, D / 2]`.
    pub cos: Tensor,
    pub sin: Tensor,
}

/// One layer.
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
    /// What of it is trained, with its place in the flat slice.
    pub trained: Vec<(Range<usize>, Tensor)>,
}

/// A linear layer.
pub(super) struct Linear {
    /// `[outputs, inputs]`
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub low: Vec<LowRank>,
    /// What the low-rank update is scaled by.
    pub scale: f64,
}

/// One adapter of a linear layer.
pub(super) struct LowRank {
    /// The columns of the output that it adds to.
    pub outputs: Range<usize>,
    /// `[rank, inputs]`
    pub a: Tensor,
    /// `[outputs, rank]`
    pub b: Tensor,
}

impl Weights {
    /// Copies a model; of what is frozen, only what `frozen` does not hold.
    pub(super) fn upload(model: &Model, device: &Device, frozen: FrozenTensors) -> Result<Self> {
        let mut source = Source { model, device, frozen, trained: Vec::new() };
        let (config, layout) = (&model.config, &model.params.layout);
        let (c, vocabulary) = (config.hidden_size, config.vocab_size);
        let layers = (0..config.num_hidden_layers).map(|layer| source.layer(layer)).collect::<Result<_>>()?;
        let final_norm = source.parameter(&layout.final_norm, &[c])?;
        let head = source.parameter(&layout.head, &[vocabulary, c])?;
        let trained_end = std::mem::take(&mut source.trained);
        let trained_embedding = (!source.is_frozen()).then(|| layout.embedding.clone());
        // The embedding's gradient is put together from that of the first layer's input, not by the graph.
        let embedding =
            if layout.embedding == layout.head { head.detach() } else { source.parameter(&layout.embedding, &[vocabulary, c])?.detach() };
        let (cos, sin, half) = model.rope.tables();
        let table = |x: &[f32]| Tensor::from_slice(x, (x.len() / half, half), device);
        let (cos, sin) = (table(cos)?, table(sin)?);
        Ok(Self { frozen: source.frozen, embedding, trained_embedding, head, final_norm, trained_end, layers, cos, sin })
    }
}

/// Where copies come from, and which of them are trained.
struct Source<'a> {
    model: &'a Model,
    device: &'a Device,
    frozen: FrozenTensors,
    trained: Vec<(Range<usize>, Tensor)>,
}

impl Source<'_> {
    /// Whether the parameters themselves stay as they are.
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
            q: self.linear(layer, Site::Q, (&at.q, &[q, c]), &at.q_bias)?,
            kv: self.linear(layer, Site::Kv, (&at.kv, &[2 * kv, c]), &at.kv_bias)?,
            o: self.linear(layer, Site::O, (&at.o, &[c, q]), NONE)?,
            gate_up: self.linear(layer, Site::GateUp, (&at.gate_up, &[2 * i, c]), NONE)?,
            down: self.linear(layer, Site::Down, (&at.down, &[c, i]), NONE)?,
            trained: Vec::new(),
        };
        Ok(LayerWeights { trained: std::mem::take(&mut self.trained), ..weights })
    }

    fn linear(&mut self, layer: usize, site: Site, (range, shape): (&Range<usize>, &[usize]), bias: &Range<usize>) -> Result<Linear> {
        let (weight, bias) = (self.parameter(range, shape)?, self.optional(bias)?);
        let model = self.model;
        let Some(adapter) = &model.adapter else { return Ok(Linear { weight, bias, low: Vec::new(), scale: 0.0 }) };
        let factors = adapter.layer(layer);
        let places = factors.places.iter().filter(|place| place.site == site);
        let low = places.map(|place| {
            let a = self.variable(&place.a, &adapter.data, &[factors.rank, shape[1]])?;
            let b = self.variable(&place.b, &adapter.data, &[place.outputs.len(), factors.rank])?;
            Ok(LowRank { outputs: place.outputs.clone(), a, b })
        });
        Ok(Linear { weight, bias, low: low.collect::<Result<_>>()?, scale: f64::from(factors.scale) })
    }

    /// A vector that some models have and some have not.
    fn optional(&mut self, range: &Range<usize>) -> Result<Option<Tensor>> {
        if range.is_empty() { Ok(None) } else { self.parameter(range, &[range.len()]).map(Some) }
    }

    /// A parameter: a variable where all are trained, else a copy that is made once.
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
                let mut numbers = vec![0.0; range.len()];
                matrix.expand(0..range.len(), &mut numbers);
                Tensor::from_vec(numbers, shape, self.device)?.to_dtype(DType::BF16)?
            }
            None => Tensor::from_slice(&model.params.data[range.clone()], shape, self.device)?,
        };
        self.frozen.insert(range.start, tensor.clone());
        Ok(tensor)
    }

    fn variable(&mut self, range: &Range<usize>, data: &[f32], shape: &[usize]) -> Result<Tensor> {
        let tensor = Var::from_slice(&data[range.clone()], shape, self.device)?.into_inner();
        self.trained.push((range.clone(), tensor.clone()));
        Ok(tensor)
    }
}
