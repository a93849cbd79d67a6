//! The files of a critic: `critic.json`, and `critic.safetensors` with the head and the scale of its features.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::head::{Head, Shape};
use super::{Critic, CriticKind, FeatureScale};
use crate::model::{Role, Tensor, read_tensors, write_tensors};
use crate::{Error, Result, files};

/// The part of a critic that is not a tensor: the content of `critic.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    kind: CriticKind,
    width: usize,
    hidden: usize,
    /// Whether the critic has been fitted, and so has a feature scale.
    fitted: bool,
}

/// Returns the tensors of the head, then those of the feature scale if the critic has been fitted.
fn tensors(shape: Shape, fitted: bool) -> Vec<Tensor> {
    let mut tensors = shape.tensors();
    let names: &[&str] = if fitted { &["scale.mean", "scale.inverse"] } else { &[] };
    for name in names {
        let start = tensors.last().map_or(0, |tensor| tensor.range.end);
        tensors.push(Tensor { name: (*name).into(), shape: vec![shape.width], range: start..start + shape.width, role: Role::Norm });
    }
    tensors
}

impl Critic {
    /// Writes the critic into a directory of its own.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let Shape { width, hidden } = self.head.shape;
        let mut data = self.head.params.clone();
        if let Some(scale) = &self.scale {
            data.extend(scale.mean.iter().chain(&scale.inverse));
        }
        let fitted = self.scale.is_some();
        write_tensors(&directory.join("critic.safetensors"), &tensors(self.head.shape, fitted), &[("", &data)])?;
        let path = directory.join("critic.json");
        let metadata = Metadata { kind: self.kind, width, hidden, fitted };
        let text = serde_json::to_string_pretty(&metadata).map_err(Error::json(&path))?;
        files::replace(&path, text.as_bytes())
    }

    /// Reads a critic that [`Critic::save`] wrote.
    ///
    /// # Errors
    /// A file cannot be read or parsed, or a tensor is missing or has another shape.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("critic.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let Metadata { kind, width, hidden, fitted } = serde_json::from_str(&text).map_err(Error::json(&path))?;
        let shape = Shape { width, hidden };
        let mut params = read_tensors(&directory.join("critic.safetensors"), &tensors(shape, fitted), "")?;
        let scale = fitted.then(|| {
            let inverse = params.split_off(params.len() - width);
            FeatureScale { mean: params.split_off(params.len() - width), inverse }
        });
        Ok(Self { kind, head: Head { shape, params }, scale })
    }
}
