//! The model judge: it samples several answers about a finished episode from an engine, and combines those that can be parsed.

mod cache;
mod prompts;

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::{Engine, Episode, Error, GenerateRequest, Judge, JudgeRef, Judged, Judgement, PlanScores, Question, Result, Role};
use serde::{Deserialize, Serialize};

pub use cache::CachedJudge;
use prompts::{JudgePrompts, grammar};

/// Section `judge` of the configuration. Neither PilotRL nor RLTR gives its values; the defaults are those of a third-party implementation
/// of RLTR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// The number of samples per question, N of RLTR (2508.19598, section 3.2).
    pub samples: u32,
    /// The sampling temperature.
    pub temperature: f32,
    /// The maximum number of page lines in a prompt.
    pub page_lines: usize,
    /// The maximum number of tokens of an answer.
    pub max_tokens: usize,
    /// The seed of the first sample; each following sample adds 1.
    pub seed: u64,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self { samples: 3, temperature: 0.7, page_lines: 60, max_tokens: 128, seed: 0 }
    }
}

/// A judge whose verdicts are sampled from an engine. Its verdicts may shape the rewards of episodes whose outcome was verified; they are
/// never the outcome itself.
pub struct ModelJudge {
    engine: Arc<dyn Engine>,
    prompts: JudgePrompts,
    config: JudgeConfig,
}

impl ModelJudge {
    /// Creates a judge on this engine.
    ///
    /// # Errors
    /// A prompt template does not compile.
    pub fn new(engine: Arc<dyn Engine>, config: JudgeConfig) -> Result<Self> {
        Ok(Self { engine, prompts: JudgePrompts::new()?, config })
    }

    /// Samples one answer; if the prompt is too long, it retries with fewer page lines.
    async fn sample(&self, episode: &Episode, question: Question, seed: u64) -> Result<String> {
        let mut lines = self.config.page_lines;
        loop {
            let request = GenerateRequest {
                role: Role::Judge,
                messages: self.prompts.messages(episode, question, lines)?,
                grammar: Some(grammar(question)),
                temperature: self.config.temperature,
                seed,
                max_tokens: self.config.max_tokens,
            };
            match self.engine.generate(request).await {
                Err(Error::PromptTooLong { .. }) if lines > 8 => lines = lines * 3 / 4,
                generated => return Ok(generated?.text),
            }
        }
    }
}

/// A parsed sample.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sample {
    Grade(f64),
    Plan(PlanScores),
}

/// Parses a sample: the last number that is a valid grade, or the JSON of the scores. The model's thoughts (text up to `</think>`) are
/// skipped.
fn parse_sample(question: Question, text: &str) -> Option<Sample> {
    let said = text.rsplit_once("</think>").map_or(text, |(_, said)| said);
    let grade = |most: u32| {
        let numbers = said.split(|c: char| !c.is_alphanumeric()).filter_map(|word| word.parse::<u32>().ok());
        numbers.rev().find(|number| *number <= most).map(|number| Sample::Grade(f64::from(number)))
    };
    match question {
        Question::Completeness => grade(1),
        Question::Adherence { .. } | Question::EndToEnd => grade(2),
        Question::PlanQuality => {
            let object = said.get(said.find('{')?..=said.rfind('}')?)?;
            let scores: serde_json::Value = serde_json::from_str(object).ok()?;
            let score = |key: &str| scores.get(key)?.as_u64().filter(|score| (1..=5).contains(score)).map(|score| score as f64);
            Some(Sample::Plan(PlanScores {
                correctness: score("correctness_score")?,
                executability: score("followability_score")?,
                standardization: score("standardization_score")?,
            }))
        }
    }
}

/// Combines samples: for completeness it lists their verdicts (RLTR takes their mean), for all other questions it takes the mean.
fn combine(question: Question, samples: &[Sample]) -> Judgement {
    let grade = |sample: &Sample| match sample {
        Sample::Grade(grade) => *grade,
        Sample::Plan(scores) => scores.mean(),
    };
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64;
    let score = |of: fn(&PlanScores) -> f64| {
        mean(&|sample| match sample {
            Sample::Plan(scores) => of(scores),
            Sample::Grade(grade) => *grade,
        })
    };
    match question {
        Question::Completeness => Judgement::Completeness(samples.iter().map(|sample| grade(sample) > 0.5).collect()),
        Question::Adherence { .. } => Judgement::Adherence(mean(&grade)),
        Question::EndToEnd => Judgement::EndToEnd(mean(&grade)),
        Question::PlanQuality => Judgement::PlanQuality(PlanScores {
            correctness: score(|scores| scores.correctness),
            executability: score(|scores| scores.executability),
            standardization: score(|scores| scores.standardization),
        }),
    }
}

#[async_trait]
impl Judge for ModelJudge {
    fn identity(&self) -> String {
        let JudgeConfig { samples, temperature, page_lines, max_tokens, seed } = &self.config;
        format!("{} {} {samples} {temperature} {page_lines} {max_tokens} {seed}", self.engine.generation().id(), self.prompts.hash)
    }

    async fn judge(&self, episode: &Episode, question: Question) -> Result<Judged<Judgement>> {
        let (mut samples, mut last) = (Vec::new(), Error::Judge("`judge.samples` is 0".into()));
        for sample in 0..self.config.samples {
            match self.sample(episode, question, self.config.seed.wrapping_add(u64::from(sample))).await {
                Ok(text) => match parse_sample(question, &text) {
                    Some(sample) => samples.push(sample),
                    None => last = Error::parse("verdict", &text, "expected a grade or the three scores"),
                },
                Err(error) => last = error,
            }
        }
        let parsed = samples.len() as u32;
        if parsed == 0 {
            return Err(last);
        }
        let by = JudgeRef {
            model: self.engine.generation().id(),
            prompt_hash: self.prompts.hash.clone(),
            samples: self.config.samples,
            parsed,
            failed: self.config.samples - parsed,
        };
        Ok(Judged { verdict: combine(question, &samples), by })
    }
}
