//! Reading and writing models as safetensors files with the tensor names of Hugging Face.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Layout, Model, ModelConfig, Params, Tensor};
use crate::{Error, Result, files};

const FILE: &str = "model.safetensors";

impl Model {
    /// Creates a model with random parameters.
    ///
    /// # Errors
    /// [`ModelConfig::check`] refuses the configuration.
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let params = Params::random(&config, seed);
        Self::new(config, params)
    }

    /// Reads a Hugging Face model directory: `config.json`, and `model.safetensors` or its shards, in F32 or BF16.
    ///
    /// # Errors
    /// A file cannot be read or parsed, the configuration is refused, or a tensor is missing or has another shape or type.
    pub fn load(directory: &Path) -> Result<Self> {
        let config = ModelConfig::load(directory)?;
        let layout = Layout::new(&config);
        let mut data = vec![0.0; layout.len()];
        for (path, tensors) in shards(directory, &layout.tensors)? {
            read_into(&path, &tensors, "", &mut data)?;
        }
        Self::new(config, Params { layout, data, frozen: Default::default() })
    }

    /// Writes a Hugging Face model directory; each file is replaced atomically.
    ///
    /// # Errors
    /// The weights are frozen in a compact format, or a file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        self.params.check_not_frozen()?;
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let parts = [("", &self.params.data[..])];
        write_tensors(&directory.join(FILE), &self.params.layout.tensors, &parts)?;
        self.config.save(directory)
    }
}

/// The index file of a model whose tensors are spread over several files.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns the files of a model with the tensors that each holds.
fn shards(directory: &Path, tensors: &[Tensor]) -> Result<BTreeMap<PathBuf, Vec<Tensor>>> {
    let index_path = directory.join(format!("{FILE}.index.json"));
    if !index_path.exists() {
        return Ok([(directory.join(FILE), tensors.to_vec())].into());
    }
    let text = std::fs::read_to_string(&index_path).map_err(Error::io(&index_path))?;
    let index: Index = serde_json::from_str(&text).map_err(Error::json(&index_path))?;
    let mut shards: BTreeMap<PathBuf, Vec<Tensor>> = BTreeMap::new();
    for tensor in tensors {
        let file = index.weight_map.get(&tensor.name).ok_or_else(|| Error::Tensor {
            path: index_path.clone(),
            name: tensor.name.clone(),
            problem: "is in none of the files".into(),
        })?;
        shards.entry(directory.join(file)).or_default().push(tensor.clone());
    }
    Ok(shards)
}

/// Writes several flat slices with the same layout of tensors to one safetensors file, each slice with its own prefix of the tensors' names.
///
/// # Errors
/// The file cannot be written.
pub fn write_tensors(path: &Path, tensors: &[Tensor], parts: &[(&str, &[f32])]) -> Result<()> {
    let mut bytes = Vec::new();
    for (prefix, data) in parts {
        for tensor in tensors {
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

/// Reads all of these tensors, whose names have a prefix in the file, into one flat slice.
///
/// # Errors
/// The file cannot be read, or a tensor is missing or has another shape or type.
pub fn read_tensors(path: &Path, tensors: &[Tensor], prefix: &str) -> Result<Vec<f32>> {
    let mut data = vec![0.0; tensors.last().map_or(0, |tensor| tensor.range.end)];
    read_into(path, tensors, prefix, &mut data)?;
    Ok(data)
}

/// Reads tensors into their ranges of `data`, converting BF16 to single precision.
fn read_into(path: &Path, tensors: &[Tensor], prefix: &str, data: &mut [f32]) -> Result<()> {
    let raw = std::fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&raw).map_err(Error::safetensors(path))?;
    for tensor in tensors {
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
                    *x = bf16::from_le_bytes(*b).to_f32();
                }
            }
            other => return Err(refuse(format!("is {other:?}; F32 and BF16 can be read"))),
        }
    }
    Ok(())
}
