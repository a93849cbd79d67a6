//! An engine that answers from a list, for tests of what stands above an engine. No binary can reach it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use milepost_runtime::{Call, Engine, GenerateRequest, Generated, Generation, Probes, Result, ScoreRequest, Span};

use crate::failed;

/// Answers each request with the next text of its list and remembers the requests.
#[derive(Debug, Default)]
pub struct ScriptedEngine {
    answers: Mutex<VecDeque<String>>,
    requests: Mutex<Vec<GenerateRequest>>,
}

impl ScriptedEngine {
    /// An engine that will give these answers, in order.
    pub fn new<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().map(Into::into).collect()), requests: Mutex::default() }
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.requests.lock().map(|requests| requests.clone()).unwrap_or_default()
    }
}

#[async_trait]
impl Engine for ScriptedEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let text = self.answers.lock().ok().and_then(|mut answers| answers.pop_front());
        let text = text.ok_or_else(|| failed("the script has no more answers"))?;
        let call = Call {
            role: request.role,
            prompt_ids: Vec::new(),
            completion_ids: Vec::new(),
            spans: vec![Span { role: request.role, start: 0, end: 0 }],
            grammar: request.grammar.clone(),
            logprobs: Vec::new(),
            free_logprobs: Vec::new(),
            temperature: request.temperature,
            seed: request.seed,
            generation: self.generation().id(),
            latency_ms: 0.0,
        };
        if let Ok(mut requests) = self.requests.lock() {
            requests.push(request);
        }
        Ok(Generated { text, call, ends: Vec::new() })
    }

    async fn score(&self, _request: ScoreRequest) -> Result<Vec<f32>> {
        Err(failed("a script has no log-probabilities"))
    }

    fn generation(&self) -> Generation {
        Generation { base: "script".into(), ..Generation::default() }
    }

    async fn swap(&self, _adapter: &Path, _probes: &Probes) -> Result<Generation> {
        Err(failed("a script takes no adapter"))
    }
}
