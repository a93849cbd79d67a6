//! Demonstrations: oracle episodes of the suite as supervised examples.
//!
//! An oracle acts in the same loop as a model. Each of its decisions becomes a prompt, rendered as the model policies render it, and the
//! completion that the model should write. The curriculum (design of the seed model): easy examples show only the element that is acted on and
//! a few others; with rising difficulty they show more of the page, up to all of it.

mod oracle;
mod page;

use std::sync::Arc;

use milepost_learners::sft::{Example, ExampleSource};
use milepost_runtime::action::Naming;
use milepost_runtime::{Action, Context, Message, Observation, Plan, Revision, Split};
use milepost_text::TextModel;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use self::oracle::{Decided, Demonstration, demonstrate};
use self::page::{forced_id, reduce_page, tokens_within};
use crate::error::{Result, ResultExt};
use crate::host::{Planning, PromptWriter, TaskSuite, Template};

/// An endless source of examples, from the templates that may be trained on and the training seeds.
pub struct Demonstrations {
    text: Arc<TextModel>,
    suite: Arc<dyn TaskSuite>,
    prompts: Arc<dyn PromptWriter>,
    templates: Vec<Template>,
    seed: u64,
    /// The number of requests for examples so far.
    requests: u64,
    /// The random numbers for the latest request.
    rng: StdRng,
    runtime: tokio::runtime::Runtime,
    /// Examples that were made but not returned yet.
    unused: Vec<Example>,
}

impl Demonstrations {
    /// Creates a source of demonstrations for a model with this tokenizer and chat template.
    ///
    /// # Errors
    /// No runtime can be started.
    pub fn new(text: Arc<TextModel>, suite: Arc<dyn TaskSuite>, prompts: Arc<dyn PromptWriter>, seed: u64) -> Result<Self> {
        let (templates, rng) = (trained_templates(&*suite), StdRng::seed_from_u64(seed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime for the demonstrations")?;
        Ok(Self { text, suite, prompts, templates, seed, requests: 0, rng, runtime, unused: Vec::new() })
    }

    /// Draws a template: of the lowest level at first, also of the next level from a difficulty of 0.2 on, and of all levels from 0.5 on. Templates
    /// of the highest level are drawn less often, because each gives many decisions.
    fn template(&mut self, difficulty: f32) -> Template {
        let weight = |template: &Template| match template.level_rank {
            0 => 4,
            1 if difficulty >= 0.2 => 4,
            2.. if difficulty >= 0.5 => 2,
            _ => 0,
        };
        self.templates.choose_weighted(&mut self.rng, weight).unwrap_or(&self.templates[0]).clone()
    }

    fn play(&mut self, difficulty: f32) -> Option<Demonstration> {
        let template = self.template(difficulty);
        let seed = self.rng.random_range(Split::Train.seeds());
        match self.runtime.block_on(demonstrate(&*self.suite, &template, seed)) {
            Ok(demonstration) => demonstration,
            Err(error) => {
                tracing::warn!(template = template.id, seed, error = error.with_causes(), "a demonstration failed");
                None
            }
        }
    }

    fn example(&mut self, demonstration: &Demonstration, decided: &Decided, difficulty: f32) -> Result<Option<Example>> {
        let nothing = (Plan::default(), Observation::default());
        let mut context = Context {
            task: &demonstration.task,
            plan: &nothing.0,
            steps: &[],
            observation: &nothing.1,
            tools: &demonstration.tools,
            stalled: false,
            messages: &[],
            seed: 0,
        };
        let page;
        let (messages, completion, tag) = match decided {
            Decided::Plan { observation, steps } => {
                context.observation = observation;
                let text: String = steps.iter().map(|step| format!("{step}\n")).collect();
                (self.prompts.plan(context)?, format!("{text}end"), "plan")
            }
            Decided::Turn { observation, plan, steps, revision, action } => {
                let react = self.rng.random_bool(0.15);
                let planning = if react { Planning::Unplanned } else { Planning::Planned };
                let keep = *revision == Revision::Keep;
                page = reduce_page(observation, action, if keep { difficulty } else { 0.5 + difficulty / 2.0 }, keep, &mut self.rng);
                (context.observation, context.plan, context.steps) = (&page, plan, steps);
                let tag = if react {
                    "react"
                } else if keep {
                    action_tag(action)
                } else {
                    "revise"
                };
                (self.prompts.turn(context, planning)?, self.prompts.turn_completion(revision, action, observation, planning), tag)
            }
            Decided::Answer { observation, steps, text } => {
                (context.observation, context.steps) = (observation, steps);
                (self.prompts.answer(context)?, text.clone(), "answer")
            }
        };
        let mut example = self.encode(&messages, &completion, tag)?;
        if let (Decided::Turn { action, .. }, Naming::NameAndId) = (decided, self.prompts.naming()) {
            example.forced = forced_id(action, context.observation, &completion)
                .map_or(0..0, |bytes| tokens_within(&self.text.text_ends(&example.completion), bytes));
        }
        Ok(Some(example))
    }

    fn encode(&self, messages: &[Message], completion: &str, tag: &str) -> Result<Example> {
        let (prompt, completion) = (self.text.encode_prompt(messages)?, self.text.encode_completion(completion)?);
        Ok(Example { prompt, completion, tag: tag.into(), ..Example::default() })
    }
}

/// Returns the probability that a decision becomes an example. Rare kinds (revisions and answers) always do, plans more often as the difficulty
/// rises, and the many plain turns of a long episode less often.
fn sampling_rate(decided: &Decided, turns: usize, difficulty: f32) -> f64 {
    match decided {
        Decided::Plan { .. } => f64::from(0.2 + difficulty).min(1.0),
        Decided::Answer { .. } => 1.0,
        Decided::Turn { revision, .. } if *revision != Revision::Keep => 1.0,
        Decided::Turn { action: Action::Answer { .. }, .. } => 0.3,
        Decided::Turn { .. } => (10.0 / turns.max(1) as f64).min(1.0),
    }
}

/// Returns the tag under which the training statistics count an action.
fn action_tag(action: &Action) -> &'static str {
    match action {
        Action::Click(_) => "click",
        Action::Type { .. } => "type",
        Action::Select { .. } => "select",
        Action::Call { .. } => "call",
        Action::Answer { .. } => "done",
        _ => "other",
    }
}

impl ExampleSource for Demonstrations {
    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "asked": self.requests, "left": self.unused })
    }

    fn restore(&mut self, state: &serde_json::Value) {
        self.requests = state["asked"].as_u64().unwrap_or_default();
        self.unused = serde_json::from_value(state["left"].clone()).unwrap_or_default();
    }

    fn sample(&mut self, difficulty: f32, count: usize) -> Vec<Example> {
        self.requests += 1;
        self.rng = StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.requests));
        let mut failures = 0;
        while self.unused.len() < count.max(256) && failures < 100 {
            let Some(demonstration) = self.play(difficulty) else {
                failures += 1;
                continue;
            };
            let turns = demonstration.decisions.len();
            for decided in &demonstration.decisions {
                if self.rng.random_bool(sampling_rate(decided, turns, difficulty)) {
                    match self.example(&demonstration, decided, difficulty) {
                        Ok(example) => self.unused.extend(example),
                        Err(error) => tracing::warn!(%error, "an example could not be made"),
                    }
                }
            }
        }
        self.unused.shuffle(&mut self.rng);
        self.unused.split_off(self.unused.len().saturating_sub(count))
    }
}

fn trained_templates(suite: &dyn TaskSuite) -> Vec<Template> {
    suite.templates().into_iter().filter(|template| !template.held_out).collect()
}

/// Collects the texts that a tokenizer for this suite is trained on: the pages and completions of `episodes` demonstrations.
///
/// # Errors
/// An episode cannot be played.
pub fn corpus(suite: &dyn TaskSuite, prompts: &dyn PromptWriter, episodes: usize, seed: u64) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let templates = trained_templates(suite);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut texts = Vec::new();
    for index in 0..episodes {
        let (template, seed) = (&templates[index % templates.len()], rng.random_range(Split::Train.seeds()));
        let Some(demonstration) = runtime.block_on(demonstrate(suite, template, seed))? else { continue };
        texts.push(demonstration.task.goal.clone());
        for decided in &demonstration.decisions {
            let (observation, completion) = match decided {
                Decided::Plan { observation, steps } => (observation, steps.iter().map(|step| format!("{step}\n")).collect()),
                Decided::Turn { observation, revision, action, .. } => {
                    (observation, prompts.turn_completion(revision, action, observation, Planning::Planned))
                }
                Decided::Answer { observation, text, .. } => (observation, text.clone()),
            };
            texts.push(observation.render(prompts.page_lines()));
            texts.push(completion);
        }
    }
    texts.push(
        [
            "plan\ngoal ",
            "act\ngoal ",
            "\nreact\ngoal ",
            "\ndid ",
            "\nnow ",
            "\nreport\n",
            "\nstalled\n",
            "keep\n",
            "revise\n",
            "resume 12",
            "end",
        ]
        .concat(),
    );
    Ok(texts)
}
