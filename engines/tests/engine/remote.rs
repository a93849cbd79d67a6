//! Tests of the remote engine against a mock server that answers as vLLM does.

use milepost_engines::{GrammarField, RemoteEngine, RemoteModelConfig};
use milepost_runtime::{Engine, GenerationEngine, Grammar, Probes, ScoreRequest};
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::model::{free, masked};

fn config(server: &MockServer) -> RemoteModelConfig {
    RemoteModelConfig { url: server.uri(), model: "big".into(), ..RemoteModelConfig::default() }
}

fn completion() -> Value {
    let token = |token: &str, logprob: f64| json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() });
    json!({ "choices": [{
        "message": { "role": "assistant", "content": "click 12" }, "finish_reason": "stop",
        "logprobs": { "content": [token("click", -0.1), token(" 12", -0.25), token("<|im_end|>", -0.5)] },
    }] })
}

async fn answers(server: &MockServer, to: &str, answer: ResponseTemplate) {
    Mock::given(method("POST")).and(path(to)).respond_with(answer).mount(server).await;
}

#[tokio::test]
async fn an_answer_has_text_and_logprobs_but_no_ids() {
    // PATH is set in every environment, so it serves as the variable of the key.
    let key = std::env::var("PATH").unwrap();
    let server = MockServer::start().await;
    let asked = body_partial_json(
        json!({ "model": "big", "seed": 3, "max_tokens": 20, "logprobs": true, "structured_outputs": { "grammar": "start: \"a\"" } }),
    );
    let answer = ResponseTemplate::new(200).set_body_json(completion());
    Mock::given(path("/v1/chat/completions"))
        .and(asked)
        .and(header("authorization", format!("Bearer {key}").as_str()))
        .respond_with(answer)
        .expect(1)
        .mount(&server)
        .await;
    let engine = RemoteEngine::new(&RemoteModelConfig { api_key_env: "PATH".into(), ..config(&server) }).unwrap();
    let answer = engine.generate(masked(3, &Grammar("start: \"a\"".into()), 20)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.ends.as_slice()), ("click 12", &[5, 8, 8][..]));
    assert_eq!(answer.call.logprobs, [-0.1, -0.25, -0.5]);
    assert!(answer.call.completion_ids.is_empty() && answer.call.generation == engine.generation().id());
    assert!(!format!("{engine:?}").contains(&key), "the key does not print");
}

#[tokio::test]
async fn each_server_gets_the_grammar_in_its_own_field() {
    let grammar = Grammar("start: \"a\"".into());
    for (field, want) in [
        (GrammarField::GuidedGrammar, json!({ "guided_grammar": grammar.0 })),
        (GrammarField::Ebnf, json!({ "ebnf": grammar.0 })),
        (GrammarField::LlamaCpp, json!({ "grammar": "%llguidance {}\nstart: \"a\"" })),
        (GrammarField::Mistralrs, json!({ "grammar": { "type": "lark", "value": grammar.0 } })),
        (GrammarField::Off, json!({ "model": "big" })),
    ] {
        let server = MockServer::start().await;
        answers(&server, "/v1/chat/completions", ResponseTemplate::new(200).set_body_json(completion())).await;
        let engine = RemoteEngine::new(&RemoteModelConfig { grammar: field, ..config(&server) }).unwrap();
        engine.generate(masked(1, &grammar, 8)).await.unwrap();
        let requests: Vec<Request> = server.received_requests().await.unwrap();
        let body: Value = requests[0].body_json().unwrap();
        for (key, value) in want.as_object().unwrap() {
            assert_eq!(&body[key], value, "{field:?}");
        }
        let fields = ["structured_outputs", "guided_grammar", "ebnf", "grammar"];
        assert_eq!(fields.iter().filter(|key| body.get(**key).is_some()).count(), usize::from(field != GrammarField::Off));
    }
}

#[tokio::test]
async fn a_busy_server_gets_two_retries() {
    for (failures, status, good) in [(2, 503, true), (2, 429, true), (3, 500, false), (1, 400, false)] {
        let server = MockServer::start().await;
        let busy = ResponseTemplate::new(status).insert_header("retry-after", "0").set_body_string("busy");
        Mock::given(path("/v1/chat/completions")).respond_with(busy).up_to_n_times(failures).mount(&server).await;
        answers(&server, "/v1/chat/completions", ResponseTemplate::new(200).set_body_json(completion())).await;
        let answer = RemoteEngine::new(&config(&server)).unwrap().generate(free(1, 8)).await;
        assert_eq!(answer.is_ok(), good, "{failures} × {status}: {answer:?}");
        if let Err(error) = answer {
            assert!(error.to_string().contains(&status.to_string()) && error.to_string().contains("busy"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_slow_or_absent_server_is_named() {
    let server = MockServer::start().await;
    let slow = ResponseTemplate::new(200).set_body_json(completion()).set_delay(std::time::Duration::from_secs(30));
    answers(&server, "/v1/chat/completions", slow).await;
    let engine = RemoteEngine::new(&RemoteModelConfig { timeout_seconds: 1, ..config(&server) }).unwrap();
    let error = engine.generate(free(1, 8)).await.unwrap_err().to_string();
    assert!(error.contains("remote.timeout_seconds") && error.contains(&server.uri()), "{error}");
    for (changed, word) in [
        (RemoteModelConfig { url: "localhost:8000".into(), ..config(&server) }, "not http(s)"),
        (RemoteModelConfig { model: String::new(), ..config(&server) }, "remote.model"),
        (RemoteModelConfig { api_key_env: "MILEPOST_NO_SUCH_KEY".into(), ..config(&server) }, "MILEPOST_NO_SUCH_KEY"),
    ] {
        let error = RemoteEngine::new(&changed).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

fn probes() -> Probes {
    let request = ScoreRequest { prompt_ids: vec![4, 5], completion_ids: vec![6, 7], grammar: None, temperature: 1.0 };
    Probes { requests: vec![request], expected: vec![vec![-1.0, -2.0]], parent: vec![vec![-1.5, -1.5]] }
}

fn scored(first: f64, second: f64) -> ResponseTemplate {
    let positions = json!([null, { "5": { "logprob": -3.0 } }, { "6": { "logprob": first } }, { "7": { "logprob": second }, "9": { "logprob": -0.1 } }]);
    ResponseTemplate::new(200).set_body_json(json!({ "choices": [{ "text": "x", "prompt_logprobs": positions }] }))
}

async fn swap(server: &MockServer, scores: ResponseTemplate) -> (RemoteEngine, milepost_runtime::Result<milepost_runtime::Generation>) {
    answers(server, "/v1/load_lora_adapter", ResponseTemplate::new(200).set_body_string("Success")).await;
    answers(server, "/v1/unload_lora_adapter", ResponseTemplate::new(200).set_body_string("Success")).await;
    answers(server, "/v1/completions", scores).await;
    answers(server, "/v1/chat/completions", ResponseTemplate::new(200).set_body_json(completion())).await;
    let engine = RemoteEngine::new(&config(server)).unwrap();
    let adapter = tempfile::tempdir().unwrap();
    std::fs::write(adapter.path().join("adapter_config.json"), "{}").unwrap();
    std::fs::write(adapter.path().join("adapter_model.safetensors"), "weights").unwrap();
    let swapped = engine.swap(adapter.path(), &probes()).await;
    engine.generate(free(1, 8)).await.unwrap();
    (engine, swapped)
}

async fn asked_model(server: &MockServer) -> String {
    let requests = server.received_requests().await.unwrap();
    let last: Value = requests.iter().rev().find(|request| request.url.path() == "/v1/chat/completions").unwrap().body_json().unwrap();
    last["model"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_proved_adapter_is_asked_for_and_a_refuted_one_unloaded() {
    let server = MockServer::start().await;
    let (engine, swapped) = swap(&server, scored(-1.01, -2.0)).await;
    let generation = swapped.unwrap();
    assert_eq!(asked_model(&server).await, format!("milepost-{}", generation.adapter.clone().unwrap()));
    assert_eq!(engine.generation(), generation);
    let call = engine.generate(free(1, 8)).await.unwrap().call;
    assert_eq!(call.generation, generation.id());
    assert_eq!((engine.serve_base().await.unwrap().adapter, engine.generation().adapter), (None, None));
    engine.generate(free(1, 8)).await.unwrap();
    assert_eq!(asked_model(&server).await, "big");

    let server = MockServer::start().await;
    let (engine, swapped) = swap(&server, scored(-1.5, -1.5)).await;
    assert!(swapped.unwrap_err().to_string().contains("lost in quantisation"));
    assert_eq!((asked_model(&server).await.as_str(), engine.generation().adapter), ("big", None));
    let requests = server.received_requests().await.unwrap();
    assert!(requests.iter().any(|request| request.url.path() == "/v1/unload_lora_adapter"));
}

/// vLLM keeps loaded adapters only in memory.
#[tokio::test]
async fn an_adapter_is_loaded_again_after_the_server_was_restarted() {
    let server = MockServer::start().await;
    let (engine, swapped) = swap(&server, scored(-1.01, -2.0)).await;
    let name = format!("milepost-{}", swapped.unwrap().adapter.unwrap());
    let loads = async || {
        let requests = server.received_requests().await.unwrap();
        requests.iter().filter(|request| request.url.path() == "/v1/load_lora_adapter").count()
    };
    assert_eq!(loads().await, 1);
    let unknown =
        ResponseTemplate::new(404).set_body_json(json!({ "error": { "message": format!("The model `{name}` does not exist.") } }));
    let forgotten = Mock::given(method("POST")).and(path("/v1/chat/completions")).respond_with(unknown);
    forgotten.up_to_n_times(1).with_priority(1).mount(&server).await;
    engine.generate(free(1, 8)).await.unwrap();
    assert_eq!((loads().await, asked_model(&server).await), (2, name));
}

#[tokio::test]
async fn a_server_without_prompt_logprobs_says_so() {
    let server = MockServer::start().await;
    let (engine, swapped) = swap(&server, ResponseTemplate::new(200).set_body_json(json!({ "choices": [{ "text": "x" }] }))).await;
    // An adapter that cannot be proved is not put into service.
    let refused = swapped.unwrap_err().to_string();
    assert!(refused.contains("no adapter can be proved") && engine.generation().adapter.is_none(), "{refused}");
    let error = engine.score(probes().requests[0].clone()).await.unwrap_err().to_string();
    assert!(error.contains("prompt log-probabilities"), "{error}");
}
