//! Safetensors files with the names of Hugging Face.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Layout, Model, ModelConfig, Params};
use crate::{Error, Result, files};

const FILE: &str = "model.safetensors";

impl Model {
    /// A fresh model.
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let params = Params::random(&config, seed);
        Self::new(config, params)
    }

    /// Reads a Hugging Face directory (`config.json`, `model.safetensors` in F32 or BF16).
    pub fn load(directory: &Path) -> Result<Self> {
        let config = ModelConfig::load(directory)?;
        let layout = Layout::new(&config);
        let data = read_tensors(&directory.join(FILE), &layout, "")?;
        Self::new(config, Params { layout, data })
    }

    /// Writes a Hugging Face directory; each file is replaced at once.
    pub fn save(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let parts = [("", &self.params.data[..])];
        write_tensors(&directory.join(FILE), &self.params.layout, &parts)?;
        self.config.save(directory)
    }
}

/// Writes several flat slices of one layout to a file, each under its own prefix.
pub fn write_tensors(path: &Path, layout: &Layout, parts: &[(&str, &[f32])]) -> Result<()> {
    let mut bytes = Vec::new();
    for (prefix, data) in parts {
        for tensor in &layout.tensors {
            let raw: Vec<u8> = data[tensor.range.clone()].iter().flat_map(|x| x.to_le_bytes()).collect();
            bytes.push((format!("{prefix}{}", tensor.name), tensor.shape.clone(), raw));
        }
    }
    let views = bytes
        .iter()
        .map(|(name, shape, raw)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), raw)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(Error::safetensors(path))?;
    let metadata = [("format".to_string(), "pt".to_string())].into();
    files::replace_with(path, |temporary| {
        safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(Error::safetensors(path))
    })
}

/// Reads a flat slice of a layout from the tensors of a prefix.
pub fn read_tensors(path: &Path, layout: &Layout, prefix: &str) -> Result<Vec<f32>> {
    let raw = std::fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&raw).map_err(Error::safetensors(path))?;
    let mut data = vec![0.0; layout.len()];
    for tensor in &layout.tensors {
        let name = format!("{prefix}{}", tensor.name);
        let refuse = |problem: String| Error::Tensor { path: path.to_path_buf(), name: name.clone(), problem };
        let view = file.tensor(&name).map_err(|e| refuse(e.to_string()))?;
        if view.shape() != tensor.shape {
            return Err(refuse(format!("has shape {:?}, the configuration asks for {:?}", view.shape(), tensor.shape)));
        }
        let out = &mut data[tensor.range.clone()];
        match view.dtype() {
            Dtype::F32 => {
                for (x, b) in out.iter_mut().zip(view.data().as_chunks::<4>().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            Dtype::BF16 => {
                for (x, b) in out.iter_mut().zip(view.data().as_chunks::<2>().0) {
                    *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
            other => return Err(refuse(format!("is {other:?}; F32 and BF16 can be read"))),
        }
    }
    Ok(data)
}
