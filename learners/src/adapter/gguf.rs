//! Export of adapters for llama.cpp: GGUF files of version 3 with the tensors `<tensor>.lora_a` and `<tensor>.lora_b`.

use std::path::Path;

use super::{Adapter, Target};
use crate::model::ModelConfig;
use crate::{Result, files};

/// The alignment of tensors in bytes.
const ALIGNMENT: usize = 32;
/// GGUF's identifier of a metadata value that is a string.
const STRING: u32 = 8;
/// GGUF's identifier of a metadata value that is a number in single precision.
const F32: u32 = 6;

impl Target {
    /// Returns llama.cpp's name of the tensor inside a block.
    fn gguf(self) -> &'static str {
        match self {
            Self::QProj => "attn_q",
            Self::KProj => "attn_k",
            Self::VProj => "attn_v",
            Self::OProj => "attn_output",
            Self::GateProj => "ffn_gate",
            Self::UpProj => "ffn_up",
            Self::DownProj => "ffn_down",
        }
    }
}

/// A tensor as it is written to the file.
struct GgufTensor {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// Writes an adapter as a GGUF file for llama.cpp.
///
/// # Errors
/// The file cannot be written.
pub fn export_gguf(adapter: &Adapter, model: &ModelConfig, path: &Path) -> Result<()> {
    let tensors = tensors(adapter, model);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"GGUF");
    bytes.extend_from_slice(&3u32.to_le_bytes());
    bytes.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&4u64.to_le_bytes());
    for (key, value) in [("general.type", "adapter"), ("general.architecture", &model.model_type), ("adapter.type", "lora")] {
        write_string(&mut bytes, key);
        bytes.extend_from_slice(&STRING.to_le_bytes());
        write_string(&mut bytes, value);
    }
    write_string(&mut bytes, "adapter.lora.alpha");
    bytes.extend_from_slice(&F32.to_le_bytes());
    bytes.extend_from_slice(&adapter.config.alpha.to_le_bytes());
    let mut offset = 0usize;
    for tensor in &tensors {
        write_string(&mut bytes, &tensor.name);
        bytes.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        // GGUF lists the fastest-varying dimension first.
        for dimension in tensor.shape.iter().rev() {
            bytes.extend_from_slice(&(*dimension as u64).to_le_bytes());
        }
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&(offset as u64).to_le_bytes());
        offset += (tensor.data.len() * 4).next_multiple_of(ALIGNMENT);
    }
    for tensor in &tensors {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.extend(tensor.data.iter().flat_map(|x| x.to_le_bytes()));
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    files::replace(path, &bytes)
}

/// Returns the adapter's tensors with llama.cpp's names, and the rows of Llama's queries and keys in llama.cpp's order.
fn tensors(adapter: &Adapter, model: &ModelConfig) -> Vec<GgufTensor> {
    let pairs = adapter.tensors.chunks_exact(2).enumerate();
    let targets = &adapter.config.targets;
    pairs
        .flat_map(|(index, pair)| {
            let (layer, target) = (index / targets.len(), targets[index % targets.len()]);
            let name = |factor| format!("blk.{layer}.{}.weight.lora_{factor}", target.gguf());
            let data = |tensor: usize| adapter.data[pair[tensor].range.clone()].to_vec();
            let heads = match target {
                Target::QProj => model.num_attention_heads,
                _ => model.num_key_value_heads,
            };
            let permuted = model.model_type == "llama" && matches!(target, Target::QProj | Target::KProj);
            let b = if permuted { interleave(&data(1), heads, adapter.config.rank) } else { data(1) };
            [
                GgufTensor { name: name("a"), shape: pair[0].shape.clone(), data: data(0) },
                GgufTensor { name: name("b"), shape: pair[1].shape.clone(), data: b },
            ]
        })
        .collect()
}

/// Reorders the rows of a Llama query or key matrix as llama.cpp expects them: the two halves of each head are interleaved.
fn interleave(b: &[f32], heads: usize, rank: usize) -> Vec<f32> {
    let rows = b.len() / rank;
    let (head, half) = (rows / heads, rows / heads / 2);
    let row_of = |row: usize| row / head * head + (row % head) % 2 * half + (row % head) / 2;
    (0..rows).flat_map(|row| b[row_of(row) * rank..(row_of(row) + 1) * rank].to_vec()).collect()
}

/// Appends a string as GGUF encodes it: its length in bytes, then the bytes.
fn write_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{LoraConfig, LoraInit};

    #[test]
    fn the_halves_of_each_head_are_interleaved() {
        // Two heads of four rows each, at rank 1.
        let b: Vec<f32> = (0..8).map(|x| x as f32).collect();
        assert_eq!(interleave(&b, 2, 1), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn a_file_begins_with_its_header_and_holds_every_tensor() {
        let model = ModelConfig::seed(64, 0, 1);
        let adapter = Adapter::fresh(LoraConfig { rank: 2, ..Default::default() }, &model, 1, LoraInit::Random).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("adapter.gguf");
        export_gguf(&adapter, &model, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..4], b"GGUF");
        assert_eq!(u64::from_le_bytes(bytes[8..16].try_into().unwrap()), 4 * 7 * 2);
        assert!(bytes.len() > adapter.data.len() * 4 && bytes.len().is_multiple_of(ALIGNMENT));
    }
}
