//! The `config.json` of a Hugging Face model directory of a Qwen3, Qwen2 or Llama model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ops::attention::Heads;
use crate::{Error, Result};

/// The shape of a model; the fields have the names of the keys of Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The class names in transformers, such as `["Qwen3ForCausalLM"]`.
    pub architectures: Vec<String>,
    /// The architecture: `qwen3`, `qwen2` or `llama`.
    pub model_type: String,
    /// The number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// The width of the residual stream.
    pub hidden_size: usize,
    /// The width inside the MLP.
    pub intermediate_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of query heads.
    pub num_attention_heads: usize,
    /// The number of key and value heads.
    pub num_key_value_heads: usize,
    /// The width of a head; if the file has no such key, it is `hidden_size / num_attention_heads`.
    #[serde(default)]
    pub head_dim: usize,
    /// The activation function; only `silu` is supported.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// The maximum number of positions. [`ModelConfig::seed`] uses a multiple of 512, which mistralrs requires.
    pub max_position_embeddings: usize,
    /// The number that every norm adds to the mean square.
    pub rms_norm_eps: f64,
    /// The base of the rotary frequencies.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    /// The scaling of the rotary frequencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Base and scaling of the rotary frequencies in one key, as newer files have them; [`ModelConfig::load`] moves them to `rope_theta` and
    /// `rope_scaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
    /// Whether the embedding is also the output matrix.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Must be false; Qwen2's biases follow from `model_type`.
    #[serde(default)]
    pub attention_bias: bool,
    /// Unused by this crate; other programs read it.
    #[serde(default)]
    pub attention_dropout: f64,
    /// Must be false.
    #[serde(default)]
    pub use_sliding_window: bool,
    /// Unused by this crate, because sliding windows are not supported.
    #[serde(default)]
    pub sliding_window: Option<usize>,
    /// Unused by this crate; other programs read it.
    #[serde(default)]
    pub max_window_layers: usize,
    /// The standard deviation of randomly initialised weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// The type of the stored tensors; `float32` when this crate writes it.
    #[serde(default = "float32", alias = "dtype")]
    pub torch_dtype: String,
    /// Unused by this crate; other programs read it.
    #[serde(default = "yes")]
    pub use_cache: bool,
    /// The token that marks the beginning of a text.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// The token that marks the end of a text.
    #[serde(default)]
    pub eos_token_id: Option<u32>,
}

/// A scaling of the rotary frequencies for contexts that are longer than those of the original training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// No scaling.
    Default,
    /// Low frequencies are divided by `factor`, high frequencies are unchanged, and those between are interpolated (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Frequencies whose wavelength is over `original_max_position_embeddings / low_freq_factor` are low.
        low_freq_factor: f64,
        /// Frequencies whose wavelength is under `original_max_position_embeddings / high_freq_factor` are high.
        high_freq_factor: f64,
        /// The maximum number of positions of the original training.
        original_max_position_embeddings: usize,
    },
}

/// Base and scaling of the rotary frequencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// The base of the frequencies.
    pub rope_theta: f64,
    /// The scaling of the frequencies.
    #[serde(flatten)]
    pub scaling: RopeScaling,
}

fn rope_theta() -> f64 {
    10_000.0
}

fn silu() -> String {
    "silu".into()
}

fn float32() -> String {
    "float32".into()
}

fn initializer_range() -> f64 {
    0.02
}

fn yes() -> bool {
    true
}

impl ModelConfig {
    /// Returns the shape of the bundled seed model: width 256, 4 layers, 4 query and 2 key heads of 64, MLP 768, 2,048 positions.
    pub fn seed(vocab_size: usize, bos_token_id: u32, eos_token_id: u32) -> Self {
        Self {
            architectures: vec!["Qwen3ForCausalLM".into()],
            model_type: "qwen3".into(),
            vocab_size,
            hidden_size: 256,
            intermediate_size: 768,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 64,
            hidden_act: silu(),
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rope_parameters: None,
            tie_word_embeddings: true,
            attention_bias: false,
            attention_dropout: 0.0,
            use_sliding_window: false,
            sliding_window: None,
            max_window_layers: 4,
            initializer_range: initializer_range(),
            torch_dtype: float32(),
            use_cache: true,
            bos_token_id: Some(bos_token_id),
            eos_token_id: Some(eos_token_id),
        }
    }

    /// Reads and checks the `config.json` of a model directory.
    ///
    /// # Errors
    /// The file cannot be read or parsed, or [`ModelConfig::check`] refuses it.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let mut config: Self = serde_json::from_str(&text).map_err(Error::json(&path))?;
        if config.head_dim == 0 {
            config.head_dim = config.hidden_size / config.num_attention_heads.max(1);
        }
        if let Some(RopeParameters { rope_theta, scaling }) = config.rope_parameters.take() {
            (config.rope_theta, config.rope_scaling) = (rope_theta, Some(scaling));
        }
        config.check()?;
        Ok(config)
    }

    /// Writes `config.json` into a model directory, with `float32` as the type of the tensors.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("config.json");
        let config = Self { torch_dtype: float32(), ..self.clone() };
        let text = serde_json::to_string_pretty(&config).map_err(Error::json(&path))?;
        crate::files::replace(&path, text.as_bytes())
    }

    /// Returns the numbers of attention heads and their width.
    pub fn heads(&self) -> Heads {
        Heads { heads: self.num_attention_heads, kv_heads: self.num_key_value_heads, head_dim: self.head_dim }
    }

    /// Returns whether the projections of queries, keys and values have biases.
    pub fn has_bias(&self) -> bool {
        self.model_type == "qwen2"
    }

    /// Returns whether each query and key head is normalised.
    pub fn has_head_norm(&self) -> bool {
        self.model_type == "qwen3"
    }

    /// Checks that this crate can compute a model of this shape.
    ///
    /// # Errors
    /// The architecture or one of its features is not supported, or a width, a count or their proportion is invalid.
    pub fn check(&self) -> Result<()> {
        let refuse = |key, problem: String| Err(Error::Config { key, problem });
        if !["qwen3", "qwen2", "llama"].contains(&self.model_type.as_str()) {
            return refuse("model_type", format!("`{}` cannot be trained, only qwen3, qwen2 and llama", self.model_type));
        }
        if self.attention_bias || self.use_sliding_window || self.hidden_act != "silu" {
            return refuse("attention_bias", "bias, sliding windows and activations but silu are not supported".into());
        }
        if self.num_key_value_heads == 0 || !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return refuse("num_key_value_heads", "must divide num_attention_heads".into());
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return refuse("head_dim", "must be even: rotary positions turn pairs".into());
        }
        if self.vocab_size == 0 || self.hidden_size == 0 || self.intermediate_size == 0 || self.num_hidden_layers == 0 {
            return refuse("hidden_size", "vocabulary, widths and layers must be at least 1".into());
        }
        if self.max_position_embeddings == 0 {
            return refuse("max_position_embeddings", "must be at least 1".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_its_file_and_names_what_mistralrs_reads() {
        let directory = tempfile::tempdir().unwrap();
        let config = ModelConfig::seed(2048, 0, 1);
        config.save(directory.path()).unwrap();
        assert_eq!(ModelConfig::load(directory.path()).unwrap(), config);
        let text = std::fs::read_to_string(directory.path().join("config.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(json["sliding_window"].is_null() && json.get("sliding_window").is_some());
        assert_eq!(json["torch_dtype"], "float32");
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        for change in [
            (|c: &mut ModelConfig| c.attention_bias = true) as fn(&mut ModelConfig),
            |c| c.num_key_value_heads = 3,
            |c| c.max_position_embeddings = 0,
            |c| c.model_type = "gemma".into(),
        ] {
            let mut config = ModelConfig::seed(64, 0, 1);
            change(&mut config);
            assert!(config.check().is_err());
        }
    }
}
