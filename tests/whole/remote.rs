//! Tests of the improvement loop with its model on a server. The server speaks vLLM's protocol: it serves the seed model, samples under the
//! grammar of each request, and loads adapters while it serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use milepost_learners::adapter::Adapter;
use milepost_learners::model::{Decoder, DecoderScratch};
use milepost_learners::{Model, ModelConfig, Precision};
use milepost_runtime::Grammar;
use milepost_text::{BitMask, GrammarCompiler, TextModel, log_softmax_masked, masked_logprob};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::command_line::milepost;

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed");

struct Server {
    text: TextModel,
    compiler: GrammarCompiler,
    models: Mutex<BTreeMap<String, Arc<Model>>>,
    /// The names of the models that completed a request, in order.
    asked: Mutex<Vec<String>>,
    mode: Mode,
}

/// The distribution that the log-probabilities refer to.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The distribution that the server samples from, with grammar and temperature.
    Processed,
    /// The distribution with the grammar, but without the temperature, which is vLLM's default.
    Raw,
    /// The model's distribution with the temperature, but without the grammar.
    Free,
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

fn model(adapter: Option<&Path>) -> Model {
    let mut model = Model::load(Path::new(SEED)).unwrap();
    model.adapter = adapter.map(|adapter| Adapter::load(adapter, &model.config).unwrap());
    let mut model = model.merged().unwrap();
    model.precision = Precision::F32;
    model
}

impl Server {
    /// Starts a server on a free port; returns it with its address.
    async fn start(mode: Mode) -> (Arc<Self>, String) {
        let text = TextModel::load(Path::new(SEED)).unwrap();
        // The bundled model has learned to write what the grammar forces, so that its log-probabilities would be nearly the same without
        // the grammar. Those of a random model differ.
        let base = if mode == Mode::Free { Model::random(ModelConfig::load(Path::new(SEED)).unwrap(), 7).unwrap() } else { model(None) };
        let models = Mutex::new(BTreeMap::from([("big".to_owned(), Arc::new(base))]));
        let server = Arc::new(Self { compiler: GrammarCompiler::new(&text).unwrap(), text, models, asked: Mutex::default(), mode });
        let routes = axum::Router::new()
            .route("/v1/completions", axum::routing::post(complete))
            .route("/v1/load_lora_adapter", axum::routing::post(load))
            .route("/v1/unload_lora_adapter", axum::routing::post(unload))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (server, address)
    }

    /// Returns the response with the log-probabilities of a prompt's tokens.
    fn scored(model: &Model, ids: &[u32]) -> Value {
        let (mut decoder, mut desk, mut positions) = (Decoder::default(), DecoderScratch::default(), vec![Value::Null]);
        for pair in ids.windows(2) {
            let logprob = masked_logprob(decoder.push(model, pair[0], &mut desk), None, 1.0, pair[1]);
            positions.push(json!({ pair[1].to_string(): { "logprob": logprob } }));
        }
        json!({ "choices": [{ "text": "", "prompt_logprobs": positions }] })
    }

    fn sampled(&self, model: &Model, ids: &[u32], body: &Value) -> Value {
        let (mut decoder, mut desk) = (Decoder::default(), DecoderScratch::default());
        let temperature = body["temperature"].as_f64().unwrap() as f32;
        if body["logprobs"] == 5 {
            let told = if self.mode == Mode::Raw { 1.0 } else { temperature };
            let all = log_softmax_masked(decoder.read(model, ids, &mut desk), None, told);
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
            let top: serde_json::Map<String, Value> = order[..5].iter().map(|token| (format!("<{token}>"), json!(all[*token]))).collect();
            return json!({ "choices": [{ "text": "", "logprobs": { "top_logprobs": [top] } }] });
        }
        let mut rng = StdRng::seed_from_u64(body["seed"].as_u64().unwrap());
        let mut machine =
            body["structured_outputs"]["grammar"].as_str().map(|lark| self.compiler.matcher(&Grammar(lark.to_owned())).unwrap());
        let (mut mask, mut said, mut logprobs) = (BitMask::default(), Vec::new(), Vec::new());
        let mut logits = decoder.read(model, ids, &mut desk).to_vec();
        while said.len() < body["max_tokens"].as_u64().unwrap() as usize {
            if let Some(machine) = &mut machine {
                machine.allowed(&mut mask).unwrap();
            }
            let mask = machine.as_ref().map(|_| &mask);
            let all = log_softmax_masked(&logits, mask, temperature);
            // With greedy sampling `left` stays infinite, so that no token is passed and the likeliest one is taken.
            let mut left: f32 = if temperature > 0.0 { rng.random() } else { f32::INFINITY };
            let passed = |logprob: &f32| {
                left -= logprob.exp();
                left < 0.0
            };
            let likeliest = || (0..all.len()).max_by(|a, b| all[*a].total_cmp(&all[*b])).unwrap();
            let token = all.iter().position(passed).unwrap_or_else(likeliest) as u32;
            logprobs.push(match self.mode {
                Mode::Processed => all[token as usize],
                Mode::Raw => masked_logprob(&logits, mask, 1.0, token),
                Mode::Free => masked_logprob(&logits, None, temperature, token),
            });
            said.push(token);
            if token == self.text.end_id() {
                break;
            }
            if let Some(machine) = &mut machine {
                machine.advance(token).unwrap();
            }
            logits = decoder.push(model, token, &mut desk).to_vec();
        }
        json!({ "choices": [{ "text": self.text.decode(&said), "token_ids": said, "logprobs": { "token_logprobs": logprobs } }] })
    }
}

async fn complete(State(server): State<Arc<Server>>, Json(body): Json<Value>) -> Answer {
    let name = body["model"].as_str().unwrap().to_owned();
    let known = server.models.lock().unwrap().get(&name).cloned();
    let Some(model) = known else { return Err((StatusCode::NOT_FOUND, format!("The model `{name}` does not exist."))) };
    let ids: Vec<u32> = body["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    if body.get("prompt_logprobs").is_none() {
        // The request must switch off the sampling settings that the model's own configuration would add.
        assert_eq!((&body["top_p"], &body["top_k"]), (&json!(1.0), &json!(-1)));
        server.asked.lock().unwrap().push(name);
    }
    let answer = move || match body.get("prompt_logprobs") {
        Some(_) => Server::scored(&model, &ids),
        None => server.sampled(&model, &ids, &body),
    };
    Ok(Json(tokio::task::spawn_blocking(answer).await.unwrap()))
}

async fn load(State(server): State<Arc<Server>>, Json(body): Json<Value>) -> Answer {
    let (name, path) = (body["lora_name"].as_str().unwrap().to_owned(), PathBuf::from(body["lora_path"].as_str().unwrap()));
    let mut models = server.models.lock().unwrap();
    if models.contains_key(&name) {
        return Err((StatusCode::BAD_REQUEST, format!("The lora adapter '{name}' has already been loaded.")));
    }
    models.insert(name, Arc::new(model(Some(&path))));
    Ok(Json(json!("Success")))
}

async fn unload(State(server): State<Arc<Server>>, Json(body): Json<Value>) -> Answer {
    server.models.lock().unwrap().remove(body["lora_name"].as_str().unwrap());
    Ok(Json(json!("Success")))
}

fn configure(directory: &Path, url: &str) {
    let text = format!(
        "engine: remote\nremote: {{url: \"{url}\", model: big, base: {SEED}}}\nepisodes: {{directory: data}}\nimprove:\n  levels: [easy]\n  tasks: 4\n  \
         group: 2\n  temperature: 0.8\n  update: {{precision: bf16, lr: 0.003}}\n  gate: {{looks: 1, tasks_per_look: 3}}\n"
    );
    std::fs::write(directory.join("config.yaml"), text).unwrap();
}

async fn run(directory: &Path, arguments: &'static [&'static str]) -> std::process::Output {
    let directory = directory.to_owned();
    tokio::task::spawn_blocking(move || milepost(&directory, arguments, &[])).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_model_is_trained_here_and_swapped_there() {
    let (server, url) = Server::start(Mode::Processed).await;
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path(), &url);
    let improve = &["improve", "--recipe", "successes", "--environment", "plain", "--rounds", "1", "--remeasure", "2", "--json"];
    let output = run(directory.path(), improve).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let round = &report["rounds"][0];
    let candidate = round["candidate"].as_str().unwrap_or_else(|| panic!("{report}")).to_owned();
    assert_eq!((&round["training"][1], &round["validation"]["candidate"][1]), (&json!(8), &json!(3)), "{report}");
    // During the gate, the server got requests for the candidate, which is named by the hash of its files.
    let named = |asked: &[String]| asked.iter().filter(|name| name.starts_with("milepost-")).count();
    assert!(named(&server.asked.lock().unwrap()) > 0);
    // A promotion by hand proves the candidate on the server. From then on it serves, on the server and also, with the same base, on this
    // machine.
    let promote: Vec<&'static str> = vec!["adapters", "promote", Box::leak(candidate.clone().into_boxed_str())];
    let output = run(directory.path(), promote.leak()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.asked.lock().unwrap().clear();
    let suite = &["suite", "run", "--level", "easy", "--environment", "plain", "--episodes", "1", "--json"];
    let output = run(directory.path(), suite).await;
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    let asked = server.asked.lock().unwrap().clone();
    assert!(played["generation"] == candidate.as_str() && !asked.is_empty() && named(&asked) == asked.len(), "{played} {asked:?}");
    let single_turn = &["improve", "--recipe", "single_turn", "--environment", "plain", "--rounds", "2", "--remeasure", "0"];
    let output = run(directory.path(), single_turn).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = std::fs::read_to_string(directory.path().join("data/improve/run-2/round-2/calls.jsonl")).unwrap();
    assert!(calls.lines().count() > 8, "sampled in the expert's states, by the server");
    let text = std::fs::read_to_string(directory.path().join("config.yaml")).unwrap();
    std::fs::write(
        directory.path().join("config.yaml"),
        format!("{}local: {{model: {SEED}}}\n", text.replace("engine: remote", "engine: local")),
    )
    .unwrap();
    let output = run(directory.path(), suite).await;
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(played["generation"], candidate.as_str(), "one base, whoever serves it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_probabilities_are_not_of_what_it_samples_is_told_so() {
    let improve = &["improve", "--recipe", "successes", "--environment", "plain", "--rounds", "1", "--remeasure", "0"];
    let directory = tempfile::tempdir().unwrap();
    for (mode, problem) in [(Mode::Raw, "without the temperature"), (Mode::Free, "without the grammar")] {
        let (_server, url) = Server::start(mode).await;
        configure(directory.path(), &url);
        let output = run(directory.path(), improve).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = said.contains(problem) && said.contains("--logprobs-mode processed_logprobs");
        assert!(!output.status.success() && told, "{said}");
    }
    configure(directory.path(), "http://127.0.0.1:9");
    let text = std::fs::read_to_string(directory.path().join("config.yaml")).unwrap();
    std::fs::write(directory.path().join("config.yaml"), text.replace(&format!(", base: {SEED}"), "")).unwrap();
    let output = run(directory.path(), improve).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("remote.base"), "{said}");
}
