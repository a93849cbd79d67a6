//! Tests of quantisation while loading and of GGUF files: they load, decode as they score, and refuse adapters that they would lose.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use milepost_engines::{Isq, LocalEngine, LocalModelConfig};
use milepost_runtime::{Engine, GenerationEngine, Probes, ScoreRequest};

use crate::model::{SMALL, Shape, TestModel, WIDE, check_decoding, difference, free};

fn probe() -> ScoreRequest {
    ScoreRequest { prompt_ids: (5..40).collect(), completion_ids: (40..60).collect(), grammar: None, temperature: 1.0 }
}

/// Fails if the quantisation of one load affects the next: the plain load at the end would then answer as the quantised one.
#[tokio::test(flavor = "multi_thread")]
async fn quantised_models_load_run_and_do_not_leak() {
    let model = TestModel::new(WIDE, 4);
    let plain = model.engine().await;
    let want = plain.score(probe()).await.unwrap();
    for (isq, most) in [(Isq::Q8_0, 0.2), (Isq::Q4K, 2.0)] {
        let config = LocalModelConfig { isq: Some(isq), ..model.config_for_engine() };
        let engine = LocalEngine::load(&config).await.unwrap();
        let off = difference(&engine.score(probe()).await.unwrap(), &want);
        assert!(off > 1e-4 && off < most, "{} is {off} off the plain model", isq.name());
        let answer = engine.generate(free(1, 12)).await.unwrap();
        // Quantised kernels compute one row in another way than many rows.
        check_decoding(&engine, &answer.call, 0.2).await;
        assert_ne!(engine.generation().base, plain.generation().base, "the quantisation is part of the generation");
    }
    assert_eq!(model.engine().await.score(probe()).await.unwrap(), want);
}

/// An adapter that quantisation erases is refused, and one that survives it is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_quantised_base_must_keep_the_adapter() {
    // With logits as sharp as those of the other models, the rounding of the base alone would exceed the allowed mean difference.
    let model = TestModel::new(Shape { sharpness: 0.25, ..WIDE }, 4);
    let plain = model.engine().await;
    let engine = LocalEngine::load(&LocalModelConfig { isq: Some(Isq::Q8_0), ..model.config_for_engine() }).await.unwrap();
    for (name, scale, kept) in [("tiny", 1e-4, false), ("large", 0.4, true)] {
        let (adapter, merged) = model.adapter(name, 9000, scale);
        let trained = merged.engine().await;
        let probes = Probes {
            requests: vec![probe()],
            expected: vec![trained.score(probe()).await.unwrap()],
            parent: vec![plain.score(probe()).await.unwrap()],
        };
        let swapped = engine.swap(&adapter, &probes).await;
        match kept {
            true => assert!(swapped.is_ok(), "{swapped:?}"),
            false => {
                let error = swapped.unwrap_err().to_string();
                assert!(error.contains("lost in quantisation"), "{error}");
            }
        }
    }
}

/// Writes the model as a GGUF file with F32 weights.
fn write_gguf(model: &TestModel) -> std::path::PathBuf {
    let path = model.path().join("tiny.gguf");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(model.path().join("tokenizer.json")).unwrap()).unwrap();
    let text = |value: &serde_json::Value| Value::String(value.as_str().unwrap().to_owned());
    let mut vocab: Vec<_> = json["model"]["vocab"].as_object().unwrap().iter().collect();
    vocab.sort_by_key(|(_, id)| id.as_u64());
    let specials = json["added_tokens"].as_array().unwrap().len();
    let merge = |merge: &serde_json::Value| Value::String(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    let shape = model.shape;
    let number = |value: usize| Value::U32(value as u32);
    let metadata = [
        ("general.architecture", Value::String("qwen3".into())),
        ("qwen3.attention.head_count", number(4)),
        ("qwen3.attention.head_count_kv", number(2)),
        ("qwen3.attention.key_length", number(shape.head)),
        ("qwen3.attention.value_length", number(shape.head)),
        ("qwen3.block_count", number(shape.layers)),
        ("qwen3.embedding_length", number(shape.hidden)),
        ("qwen3.context_length", Value::U64(shape.context as u64)),
        ("qwen3.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("qwen3.rope.freq_base", Value::F32(10_000.0)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.tokens", Value::Array(vocab.iter().map(|(token, _)| Value::String((*token).clone())).collect())),
        ("tokenizer.ggml.token_type", Value::Array((0..vocab.len()).map(|id| Value::I32(if id < specials { 3 } else { 1 })).collect())),
        ("tokenizer.ggml.merges", Value::Array(json["model"]["merges"].as_array().unwrap().iter().map(merge).collect())),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.chat_template", text(&milepost_text::SEED_TEMPLATE.into())),
    ];
    let tensors: Vec<(String, QTensor)> =
        model.tensors.iter().map(|(name, tensor)| (gguf_name(name), QTensor::quantize(tensor, GgmlDType::F32).unwrap())).collect();
    let metadata: Vec<_> = metadata.iter().map(|(name, value)| (*name, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}

/// Translates the name of a tensor from safetensors to GGUF.
fn gguf_name(name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ] {
        name = name.replace(from, to);
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gguf_file_carries_its_tokenizer_and_refuses_adapters() {
    let model = TestModel::new(SMALL, 5);
    let file = write_gguf(&model);
    let config = LocalModelConfig { model: file.display().to_string(), ..LocalModelConfig::default() };
    let engine = LocalEngine::load(&config).await.unwrap();
    let off = difference(&engine.score(probe()).await.unwrap(), &model.engine().await.score(probe()).await.unwrap());
    assert!(off < 1e-2, "{off} off the safetensors");
    let answer = engine.generate(free(1, 16)).await.unwrap();
    check_decoding(&engine, &answer.call, 1e-3).await;
    let plain = model.engine().await.generate(free(1, 16)).await.unwrap();
    assert_eq!(answer.call.prompt_ids.first(), plain.call.prompt_ids.first(), "its own chat template opens the prompt");
    let (adapter, _) = model.adapter("any", 1, 0.1);
    let error = engine.swap(&adapter, &Probes::default()).await.unwrap_err().to_string();
    assert!(error.contains("GGUF") && error.contains("cannot be merged"), "{error}");
    let error = LocalEngine::load(&LocalModelConfig { isq: Some(Isq::Q8_0), ..config }).await.unwrap_err().to_string();
    assert!(error.contains("isq"), "{error}");
}
