//! Adapter directories in the format that PEFT, vLLM and mistralrs read: `adapter_config.json` and `adapter_model.safetensors`, and beside them
//! `lineage.json`, which records how the adapter was made.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Adapter, LoraConfig, Target};
use crate::model::{ModelConfig, read_tensors, write_tensors};
use crate::{Error, Result, files};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const LINEAGE: &str = "lineage.json";

/// The content of `adapter_config.json`: the keys that every reader accepts. Features that one of the readers silently ignores are not used.
#[derive(Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    #[serde(default)]
    auto_mapping: Option<serde_json::Value>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    revision: Option<String>,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    inference_mode: bool,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    lora_dropout: f32,
    target_modules: Vec<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    init_lora_weights: serde_json::Value,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f32>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
}

fn none() -> String {
    "none".into()
}

/// The record of how an adapter was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The hash of the base model's weights.
    pub base: String,
    /// The hash of the tokenizer.
    pub tokenizer: String,
    /// The hash of the chat template.
    pub template: String,
    /// The hash of the prompts.
    pub prompts: String,
    /// The generation that the training started from.
    pub parent: Option<String>,
    /// The name of the training recipe.
    pub recipe: String,
    /// The ids of the episodes that the adapter was trained on.
    pub episodes: Vec<String>,
    /// The configuration of the recipe.
    pub config: serde_json::Value,
    /// The seed of the training run.
    pub seed: u64,
    /// Measured figures by name.
    pub figures: BTreeMap<String, f64>,
}

impl Adapter {
    /// Writes a PEFT directory with its lineage; each file is replaced atomically. `base` is the path or name of the base model.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&self, directory: &Path, base: &str, lineage: &Lineage) -> Result<()> {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        write_tensors(&directory.join(WEIGHTS), &self.tensors, &[("", &self.data)])?;
        let config = PeftConfig {
            peft_type: "LORA".into(),
            auto_mapping: None,
            base_model_name_or_path: Some(base.into()),
            revision: None,
            task_type: Some("CAUSAL_LM".into()),
            inference_mode: true,
            r: self.config.rank,
            lora_alpha: self.config.alpha,
            lora_dropout: 0.0,
            target_modules: self.config.targets.iter().map(|target| target.module().into()).collect(),
            fan_in_fan_out: false,
            bias: none(),
            modules_to_save: None,
            init_lora_weights: true.into(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            use_rslora: false,
            use_dora: false,
        };
        write_json(&directory.join(LINEAGE), lineage)?;
        write_json(&directory.join(CONFIG), &config)
    }

    /// Reads a PEFT directory for a model of this shape.
    ///
    /// # Errors
    /// A file cannot be read; the adapter uses a feature that plain LoRA does not have, or a module that cannot have an adapter; or a tensor is
    /// missing or has another shape.
    pub fn load(directory: &Path, model: &ModelConfig) -> Result<Self> {
        let path = directory.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config: PeftConfig = serde_json::from_str(&text).map_err(Error::json(&path))?;
        config.check_plain()?;
        let targets: Option<Vec<Target>> =
            Target::ALL.into_iter().filter(|target| config.target_modules.iter().any(|name| name == target.module())).map(Some).collect();
        let targets = targets.filter(|targets| targets.len() == config.target_modules.len()).ok_or_else(|| Error::Config {
            key: "target_modules",
            problem: format!("{:?}: only the seven linear layers can carry an adapter", config.target_modules),
        })?;
        let rank = config.r;
        // rsLoRA scales by alpha / √r. That is folded into alpha, because a reader that does not know rsLoRA would scale wrongly.
        let alpha = if config.use_rslora { config.lora_alpha * (rank as f32).sqrt() } else { config.lora_alpha };
        let mut adapter = Self::zeros(LoraConfig { rank, alpha, targets }, model)?;
        adapter.data = read_tensors(&directory.join(WEIGHTS), &adapter.tensors, "")?;
        Ok(adapter)
    }
}

impl PeftConfig {
    /// Checks that the adapter uses no feature beyond plain LoRA.
    fn check_plain(&self) -> Result<()> {
        let refused = [
            ("peft_type", self.peft_type != "LORA"),
            ("use_dora", self.use_dora),
            ("bias", self.bias != "none"),
            ("modules_to_save", self.modules_to_save.as_ref().is_some_and(|modules| !modules.is_empty())),
            ("rank_pattern", !self.rank_pattern.is_empty()),
            ("alpha_pattern", !self.alpha_pattern.is_empty()),
            ("fan_in_fan_out", self.fan_in_fan_out),
        ];
        match refused.into_iter().find(|(_, refused)| *refused) {
            Some((key, _)) => Err(Error::Config { key, problem: "only plain LoRA adapters can be read".into() }),
            None => Ok(()),
        }
    }
}

impl Target {
    /// Returns the name of the module, as adapter configurations list it.
    pub fn module(self) -> &'static str {
        self.path().rsplit('.').next().unwrap_or_default()
    }
}

/// Reads the lineage of an adapter directory; returns `None` if it has none, as an adapter that another program made.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn read_lineage(directory: &Path) -> Result<Option<Lineage>> {
    let path = directory.join(LINEAGE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map(Some).map_err(Error::json(&path))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(Error::json(path))?;
    files::replace(path, text.as_bytes())
}
