//! A summary of an adapter directory, for people.

use std::path::Path;

use serde::Serialize;

use super::Adapter;
use super::peft::{Lineage, read_lineage};
use crate::Result;
use crate::model::ModelConfig;

/// The shape, the norms and the lineage of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// The rank of the update.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
    /// The names of the linear layers that have an adapter.
    pub targets: Vec<&'static str>,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of parameters.
    pub parameters: usize,
    /// The name and Frobenius norm of each tensor `B`; if all are zero, the adapter does not change the model.
    pub norms: Vec<(String, f64)>,
    /// How the adapter was made; `None` if it was not made here.
    pub lineage: Option<Lineage>,
}

impl AdapterSummary {
    /// Summarizes the adapter in a directory; `base` is the directory of the model that it belongs to.
    ///
    /// # Errors
    /// The adapter or the model's configuration cannot be read, or the two do not fit together.
    pub fn read(directory: &Path, base: &Path) -> Result<Self> {
        let adapter = Adapter::load(directory, &ModelConfig::load(base)?)?;
        Ok(Self::new(&adapter, read_lineage(directory)?))
    }

    fn new(adapter: &Adapter, lineage: Option<Lineage>) -> Self {
        let norm = |range: std::ops::Range<usize>| adapter.data[range].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let b_tensors = adapter.tensors.iter().filter(|tensor| tensor.name.ends_with("lora_B.weight"));
        Self {
            rank: adapter.config.rank,
            alpha: adapter.config.alpha,
            targets: adapter.config.targets.iter().map(|target| target.module()).collect(),
            tensors: adapter.tensors.len(),
            parameters: adapter.data.len(),
            norms: b_tensors.map(|tensor| (tensor.name.clone(), norm(tensor.range.clone()))).collect(),
            lineage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LoraConfig, LoraInit, Target};
    use super::*;

    #[test]
    fn the_norms_of_b_show_whether_an_adapter_changes_the_model() {
        let model = ModelConfig::seed(64, 0, 1);
        let config = LoraConfig { rank: 2, alpha: 4.0, targets: vec![Target::QProj, Target::UpProj] };
        let summary = |init| AdapterSummary::new(&Adapter::fresh(config.clone(), &model, 1, init).unwrap(), None);
        let (zero, random) = (summary(LoraInit::Zero), summary(LoraInit::Random));
        assert_eq!((zero.rank, zero.alpha, &zero.targets[..]), (2, 4.0, &["q_proj", "up_proj"][..]));
        assert_eq!((zero.tensors, zero.norms.len()), (4 * model.num_hidden_layers, 2 * model.num_hidden_layers));
        assert!(zero.norms.iter().all(|(name, norm)| name.ends_with("lora_B.weight") && *norm == 0.0));
        assert!(random.norms.iter().all(|(_, norm)| *norm > 0.0) && random.parameters == zero.parameters);
    }
}
