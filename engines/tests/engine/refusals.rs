//! Tests of bad input: each gives one clear error, before mistralrs sees it.

use milepost_engines::{LocalEngine, LocalModelConfig, WeightType};
use milepost_runtime::{Engine, Error, GenerationEngine, Message, ScoreRequest};

use crate::model::{SMALL, Shape, TestModel, check_decoding, free};

async fn check_refused(config: LocalModelConfig, words: &[&str]) {
    let error = LocalEngine::load(&config).await.unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_does_not_fit_is_refused() {
    let model = TestModel::new(SMALL, 6);
    let engine = model.engine().await;
    let mut long = free(1, 64);
    long.messages = vec![Message::user("click 12 ".repeat(400))];
    match engine.generate(long).await.unwrap_err() {
        Error::PromptTooLong { tokens, limit, reserved } => assert!(tokens > 1024 && limit == 1024 && reserved == 32),
        other => panic!("{other}"),
    }
    let too_long = ScoreRequest { prompt_ids: vec![7; 1000], completion_ids: vec![8; 25], grammar: None, temperature: 1.0 };
    assert!(matches!(engine.score(too_long).await.unwrap_err(), Error::PromptTooLong { .. }));
    let answer = engine.generate(free(1, 8)).await.unwrap();
    check_decoding(&engine, &answer.call, 1e-4).await;
}

/// Fails if only the request's own token limit is applied: mistralrs then runs past the context and fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_completion_ends_at_the_context() {
    // 700 is not a multiple of the cache's block of 512, so the last 188 tokens cannot be used.
    let model = TestModel::new(Shape { context: 700, ..SMALL }, 6);
    let engine = model.engine().await;
    assert_eq!(engine.max_seq(), 512);
    let mut request = free(1, 10_000);
    request.messages = vec![Message::user("click 12 ".repeat(80))];
    let answer = engine.generate(request).await.unwrap();
    assert!(answer.call.prompt_ids.len() + answer.call.completion_ids.len() <= 512);
    let capped = LocalEngine::load(&LocalModelConfig { max_seq: Some(100), ..model.config_for_engine() }).await.unwrap();
    let answer = capped.generate(free(1, 10_000)).await.unwrap();
    assert!(answer.call.prompt_ids.len() + answer.call.completion_ids.len() <= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_model_directory_is_named() {
    let named = |model: &str| LocalModelConfig { model: model.into(), ..LocalModelConfig::default() };
    check_refused(named("/nowhere/model"), &["/nowhere/model does not exist", "hub id"]).await;
    check_refused(named("models/not-there"), &["models/not-there does not exist"]).await;
    check_refused(named("Cargo.toml"), &["not .gguf"]).await;
    for (file, words) in [
        ("config.json", ["config.json is missing", "published"]),
        ("tokenizer.json", ["tokenizer.json is missing", "published"]),
        ("model.safetensors", ["no model.safetensors", "weights"]),
        ("tokenizer_config.json", ["chat_template", "tokenizer_config.json"]),
    ] {
        let model = TestModel::new(SMALL, 6);
        std::fs::remove_file(model.path().join(file)).unwrap();
        check_refused(model.config_for_engine(), &words).await;
    }
    let model = TestModel::new(SMALL, 6);
    std::fs::write(model.path().join("adapter_model.safetensors"), "").unwrap();
    check_refused(model.config_for_engine(), &["adapter_model.safetensors", "directory of its own"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_fit_together_is_refused() {
    let model = TestModel::new(SMALL, 6);
    let path = model.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let vocab = milepost_text::Tokenizer::load(&model.path().join("tokenizer.json")).unwrap().vocab_size();
    std::fs::write(&path, text.replace(&format!("\"vocab_size\":{vocab}"), "\"vocab_size\":100")).unwrap();
    check_refused(model.config_for_engine(), &[&format!("{vocab} tokens"), "100", "tokenizer.json that belongs"]).await;
    std::fs::write(&path, text.replace("\"hidden_size\":64", "\"hidden_size\":32")).unwrap();
    check_refused(model.config_for_engine(), &["cannot be loaded"]).await;
    std::fs::write(&path, text).unwrap();
    let half = LocalModelConfig { dtype: WeightType::Bf16, ..model.config_for_engine() };
    check_refused(half, &["bf16", "dtype: f32"]).await;
}
