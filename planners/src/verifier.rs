//! The model verifier, which decides a milestone that has no check. It never sees the acting policy's thoughts.

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::{Call, Engine, GenerateRequest, Grammar, Milestone, Observation, Result, Role, Verdict, Verifier};

use crate::prompts::Prompts;

/// A verifier that asks an engine whether a milestone holds on the page.
pub struct ModelVerifier {
    engine: Arc<dyn Engine>,
    prompts: Arc<Prompts>,
}

impl ModelVerifier {
    /// Creates a verifier on this engine.
    pub fn new(engine: Arc<dyn Engine>, prompts: Arc<Prompts>) -> Self {
        Self { engine, prompts }
    }
}

#[async_trait]
impl Verifier for ModelVerifier {
    async fn verify(&self, milestone: &Milestone, observation: &Observation) -> Result<(Verdict, Vec<Call>)> {
        let request = GenerateRequest {
            role: Role::Verifier,
            messages: self.prompts.verify(milestone, observation)?,
            grammar: Some(Grammar("start: \"yes\" | \"no\" | \"unknown\"".into())),
            temperature: 0.0,
            seed: 0,
            max_tokens: 8,
        };
        let generated = self.engine.generate(request).await?;
        let verdict = match generated.text.as_str() {
            "yes" => Verdict::True,
            "no" if !observation.truncated => Verdict::False,
            _ => Verdict::Unknown,
        };
        Ok((verdict, vec![generated.call]))
    }
}
