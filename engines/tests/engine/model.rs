//! A random Qwen3 model of a few thousand weights, with a tokenizer that is trained here, and adapters for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use milepost_engines::{Backend, LocalEngine, LocalModelConfig};
use milepost_runtime::{Call, GenerateRequest, GenerationEngine, Grammar, Message, Role, ScoreRequest};
use milepost_text::{SEED_SPECIALS, train_bpe, write_seed_template};
use serde_json::json;

/// The sizes of a model.
#[derive(Clone, Copy)]
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub head: usize,
    pub context: usize,
    /// The approximate standard deviation of the logits.
    pub sharpness: f32,
}

/// A small, fast model for everything except quantisation.
pub const SMALL: Shape = Shape { hidden: 64, layers: 2, head: 16, context: 1024, sharpness: 2.0 };
/// A model whose widths are multiples of a Q4K block.
pub const WIDE: Shape = Shape { hidden: 256, layers: 2, head: 64, context: 1024, sharpness: 2.0 };

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
pub const RANK: usize = 4;
pub const ALPHA: f64 = 8.0;

/// A model in a temporary directory, which is removed when this is dropped.
pub struct TestModel {
    pub dir: tempfile::TempDir,
    pub shape: Shape,
    pub tensors: HashMap<String, Tensor>,
}

/// Draws normally distributed numbers from a counter (Box-Muller over SplitMix64), so that the model is the same on every machine.
pub fn normal(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let uniform = |index: u64| {
        let mut z = (seed << 32 ^ index).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let one =
        |index: u64| ((-2.0 * uniform(2 * index).ln()).sqrt() * (std::f64::consts::TAU * uniform(2 * index + 1)).cos()) as f32 * scale;
    (0..count as u64).map(one).collect()
}

fn matrix(seed: u64, rows: usize, columns: usize, scale: f32) -> Tensor {
    Tensor::from_vec(normal(seed, rows * columns, scale), (rows, columns), &Device::Cpu).unwrap()
}

/// Returns the names and sizes `(out, in)` of a layer's projections.
fn projections(shape: Shape) -> [(&'static str, usize, usize); 7] {
    let Shape { hidden, head, .. } = shape;
    [
        ("self_attn.q_proj", HEADS * head, hidden),
        ("self_attn.k_proj", KV_HEADS * head, hidden),
        ("self_attn.v_proj", KV_HEADS * head, hidden),
        ("self_attn.o_proj", hidden, HEADS * head),
        ("mlp.gate_proj", 2 * hidden, hidden),
        ("mlp.up_proj", 2 * hidden, hidden),
        ("mlp.down_proj", hidden, 2 * hidden),
    ]
}

impl TestModel {
    /// Writes a random model.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let corpus: Vec<String> = (0..300)
            .map(|i| format!("click {i}\ntype {i} \"New York\"\nselect 3 \"Oslo\"\nscroll down\nstop \"no\" answer keep\n"))
            .collect();
        let tokenizer = train_bpe(corpus.iter().map(String::as_str), 320, &SEED_SPECIALS).unwrap();
        tokenizer.save(dir.path()).unwrap();
        write_seed_template(dir.path(), &tokenizer).unwrap();
        let vocab = tokenizer.vocab_size();
        let ones = |n: usize| Tensor::ones(n, candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut tensors = HashMap::from([
            ("model.embed_tokens.weight".to_owned(), matrix(seed, vocab, shape.hidden, shape.sharpness / (shape.hidden as f32).sqrt())),
            ("model.norm.weight".to_owned(), ones(shape.hidden)),
        ]);
        for layer in 0..shape.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            for (index, (part, out, input)) in projections(shape).into_iter().enumerate() {
                let number = seed + 10 + (layer * 10 + index) as u64;
                tensors.insert(name(part), matrix(number, out, input, (input as f32).sqrt().recip()));
            }
            for (part, size) in [
                ("input_layernorm", shape.hidden),
                ("post_attention_layernorm", shape.hidden),
                ("self_attn.q_norm", shape.head),
                ("self_attn.k_norm", shape.head),
            ] {
                tensors.insert(name(part), ones(size));
            }
        }
        let model = Self { dir, shape, tensors };
        model.write_weights();
        std::fs::write(model.path().join("config.json"), model.config(vocab).to_string()).unwrap();
        model
    }

    fn config(&self, vocab: usize) -> serde_json::Value {
        let Shape { hidden, layers, head, context, .. } = self.shape;
        json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocab, "hidden_size": hidden,
            "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
            "head_dim": head, "hidden_act": "silu", "max_position_embeddings": context, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": true, "attention_bias": false, "max_window_layers": layers, "use_sliding_window": false,
            "sliding_window": null, "torch_dtype": "float32",
        })
    }

    fn write_weights(&self) {
        candle_core::safetensors::save(&self.tensors, self.path().join("model.safetensors")).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration of this model with the mistralrs backend, whose rules these tests are about.
    pub fn config_for_engine(&self) -> LocalModelConfig {
        LocalModelConfig { model: self.path().display().to_string(), backend: Backend::Mistralrs, ..LocalModelConfig::default() }
    }

    pub async fn engine(&self) -> LocalEngine {
        LocalEngine::load(&self.config_for_engine()).await.unwrap()
    }

    /// Writes a random adapter to `dir/name`. Returns its path, and a separate model with the adapter merged by hand.
    pub fn adapter(&self, name: &str, seed: u64, scale: f32) -> (PathBuf, TestModel) {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let mut merged = self.tensors.clone();
        let mut lora = HashMap::new();
        let targets = ["q_proj", "v_proj", "down_proj"];
        for layer in 0..self.shape.layers {
            for (index, (part, out, input)) in projections(self.shape).into_iter().enumerate() {
                if !targets.iter().any(|target| part.ends_with(target)) {
                    continue;
                }
                let module = format!("model.layers.{layer}.{part}");
                let number = seed + (layer * 20 + 2 * index) as u64;
                let (a, b) = (matrix(number, RANK, input, (input as f32).sqrt().recip()), matrix(number + 1, out, RANK, scale));
                let delta = (b.matmul(&a).unwrap() * (ALPHA / RANK as f64)).unwrap();
                let weight = format!("{module}.weight");
                merged.insert(weight.clone(), (&self.tensors[&weight] + delta).unwrap());
                lora.insert(format!("base_model.model.{module}.lora_A.weight"), a);
                lora.insert(format!("base_model.model.{module}.lora_B.weight"), b);
            }
        }
        candle_core::safetensors::save(&lora, path.join("adapter_model.safetensors")).unwrap();
        let config = json!({ "r": RANK, "lora_alpha": ALPHA, "target_modules": targets, "bias": "none", "peft_type": "LORA" });
        std::fs::write(path.join("adapter_config.json"), config.to_string()).unwrap();
        let copy = TestModel { dir: tempfile::tempdir().unwrap(), shape: self.shape, tensors: merged };
        for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"] {
            std::fs::copy(self.path().join(file), copy.path().join(file)).unwrap();
        }
        copy.write_weights();
        (path, copy)
    }
}

/// Makes a request without a grammar. The length of its prompt depends on its number, so that requests differ in length.
pub fn free(number: u64, max_tokens: usize) -> GenerateRequest {
    let text = format!("page {number} {}", "click 12 type New York ".repeat(number as usize % 5 + 1));
    GenerateRequest { role: Role::Executor, messages: vec![Message::user(text)], grammar: None, temperature: 0.8, seed: number, max_tokens }
}

/// Makes a request under a grammar, otherwise as [`free`] makes it.
pub fn masked(number: u64, grammar: &Grammar, max_tokens: usize) -> GenerateRequest {
    GenerateRequest { grammar: Some(grammar.clone()), ..free(number, max_tokens) }
}

/// Scores the call's completion with teacher forcing: under a grammar it gives the policy's log-probabilities, without one the free ones.
pub async fn rescore(engine: &dyn GenerationEngine, call: &Call, grammar: Option<Grammar>) -> Vec<f32> {
    let Call { prompt_ids, completion_ids, temperature, .. } = call.clone();
    engine.score(ScoreRequest { prompt_ids, completion_ids, grammar, temperature }).await.unwrap()
}

/// Returns the largest absolute difference of two lists of the same length.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Checks that the log-probabilities recorded while decoding agree with teacher-forced ones, masked and free.
pub async fn check_decoding(engine: &dyn GenerationEngine, call: &Call, tolerance: f32) {
    assert!(!call.completion_ids.is_empty());
    let policy = rescore(engine, call, call.grammar.clone()).await;
    let off = difference(&policy, &call.logprobs);
    assert!(off <= tolerance, "the policy's log-probabilities are {off} off");
    let off = difference(&rescore(engine, call, None).await, &call.free_logprobs);
    assert!(off <= tolerance, "the free log-probabilities are {off} off");
}
