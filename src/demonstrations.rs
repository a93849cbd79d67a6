//! Demonstrations: oracle episodes of the bundled suite as supervised examples.
//!
//! An oracle plays through the same loop as a model; each of its decisions becomes a prompt, rendered as the model policies
//! render it, and the text that the model should write. The curriculum (design of the seed model): on easy examples the page is
//! thinned to the element that is acted on and a few others, and grows to the whole page with the difficulty.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use milepost_learners::sft::{Example, ExampleSource};
use milepost_planners::{PlannerKind, PlannersConfig, Prompts, turn_completion};
use milepost_runtime::action::{Naming, ToolForm};
use milepost_runtime::{
    Action, Answered, Call, Context, Decision, Element, Message, NoListener, Observation, Plan, Planned, Policy, Revision, Secrets, Step,
    Task,
};
use milepost_suites::{Instance, Level, Template};
use milepost_text::TextModel;
use milepost_tools::plain::PlainEnvironment;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use url::Url;

use crate::forgetful::unkept;
use crate::transport::{InProcess, InProcessFetch};

/// Seeds that training may use.
const TRAIN_SEEDS: std::ops::Range<u64> = 0..9_000;

/// One decision of an oracle, with what it saw.
#[derive(Clone)]
enum Decided {
    /// The first plan.
    Plan { observation: Observation, steps: Vec<Planned> },
    /// One turn.
    Turn { observation: Observation, plan: Plan, steps: Vec<Step>, revision: Revision, action: Action },
    /// The answer.
    Answer { observation: Observation, steps: Vec<Step>, text: String },
}

/// An oracle episode as decisions.
struct Demonstration {
    task: Task,
    tools: Vec<ToolForm>,
    decisions: Vec<Decided>,
}

/// Wraps an oracle and writes down each decision together with its context.
struct Witness<'a> {
    policy: &'a dyn Policy,
    seen: Mutex<Vec<Decided>>,
}

impl Witness<'_> {
    fn note(&self, decided: Decided) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.push(decided);
        }
    }
}

#[async_trait]
impl Policy for Witness<'_> {
    fn name(&self) -> &str {
        self.policy.name()
    }

    async fn plan(&self, context: Context<'_>) -> milepost_runtime::Result<(Vec<Planned>, Vec<Call>)> {
        let planned = self.policy.plan(context).await?;
        self.note(Decided::Plan { observation: context.observation.clone(), steps: planned.0.clone() });
        Ok(planned)
    }

    async fn turn(&self, context: Context<'_>) -> milepost_runtime::Result<Decision> {
        let decision = self.policy.turn(context).await?;
        self.note(Decided::Turn {
            observation: context.observation.clone(),
            plan: context.plan.clone(),
            steps: context.steps.to_vec(),
            revision: decision.revision.clone(),
            action: decision.action.clone(),
        });
        Ok(decision)
    }

    async fn answer(&self, context: Context<'_>) -> milepost_runtime::Result<Answered> {
        let answered = self.policy.answer(context).await?;
        self.note(Decided::Answer { observation: context.observation.clone(), steps: context.steps.to_vec(), text: answered.text.clone() });
        Ok(answered)
    }
}

/// Lets the oracle of an instance play in the plain reader. `None` where it did not solve the task: only successes teach.
async fn demonstrate(instance: &Instance) -> Result<Option<Demonstration>> {
    let base = Url::parse("http://site.local/")?;
    let task = instance.task(&base)?;
    let mut secrets = Secrets::default();
    for (name, value) in instance.secrets() {
        secrets.add(name, value, &base);
    }
    let transport = Arc::new(InProcess(instance.router()));
    let mut environment = PlainEnvironment::new(transport.clone(), secrets);
    let oracle = instance.oracle();
    let witness = Witness { policy: &oracle, seen: Mutex::default() };
    let tools: Vec<Arc<dyn milepost_runtime::Tool>> = vec![Arc::new(InProcessFetch(transport))];
    let (_keep, cancel) = tokio::sync::watch::channel(false);
    let episode = unkept(&witness, &mut environment, &tools, &mut NoListener, cancel).run(task.clone()).await?;
    let solved = episode.stop == Some(milepost_runtime::Stop::Answered) && instance.success(episode.answer.as_deref());
    let decisions = witness.seen.into_inner().unwrap_or_default();
    Ok(solved.then(|| Demonstration { task, tools: tools.iter().map(|tool| tool.form()).collect(), decisions }))
}

/// Makes examples without end from the trained templates and the training seeds.
pub struct Demonstrations {
    text: Arc<TextModel>,
    prompts: Prompts,
    naming: Naming,
    templates: Vec<&'static Template>,
    seed: u64,
    /// Times that examples were asked for.
    asked: u64,
    /// The randomness of the latest time.
    rng: StdRng,
    runtime: tokio::runtime::Runtime,
    left: Vec<Example>,
}

impl Demonstrations {
    /// Demonstrations for a model with this text side.
    pub fn new(text: Arc<TextModel>, config: &PlannersConfig, seed: u64) -> Result<Self> {
        let templates: Vec<_> = milepost_suites::bundled().iter().filter(|template| !template.held_out).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime for the demonstrations")?;
        Ok(Self {
            text,
            prompts: Prompts::new(config)?,
            naming: config.prompt_profile.naming(),
            templates,
            seed,
            asked: 0,
            rng: StdRng::seed_from_u64(seed),
            runtime,
            left: Vec::new(),
        })
    }

    /// A template: easy ones first, all levels from half the difficulty on, long ones rarer since each gives many decisions.
    fn template(&mut self, difficulty: f32) -> &'static Template {
        let weight = |template: &&'static Template| match template.level {
            Level::Easy => 4,
            Level::Medium if difficulty >= 0.2 => 4,
            Level::Long if difficulty >= 0.5 => 2,
            Level::Medium | Level::Long => 0,
        };
        self.templates.choose_weighted(&mut self.rng, weight).copied().unwrap_or(self.templates[0])
    }

    fn play(&mut self, difficulty: f32) -> Option<Demonstration> {
        let template = self.template(difficulty);
        let seed = self.rng.random_range(TRAIN_SEEDS);
        match self.runtime.block_on(demonstrate(&template.instantiate(seed))) {
            Ok(demonstration) => demonstration,
            Err(error) => {
                tracing::warn!(template = template.id, seed, %error, "a demonstration failed");
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
        let lines = self.prompts.page_lines();
        let page;
        let (messages, completion, tag) = match decided {
            Decided::Plan { observation, steps } => {
                context.observation = observation;
                let text: String = steps.iter().map(|step| format!("{step}\n")).collect();
                (self.prompts.plan(context, lines)?, format!("{text}end"), "plan")
            }
            Decided::Turn { observation, plan, steps, revision, action } => {
                let react = self.rng.random_bool(0.15);
                let kind = if react { PlannerKind::React } else { PlannerKind::Adaplan };
                let keep = *revision == Revision::Keep;
                page = thin(observation, action, if keep { difficulty } else { 0.5 + difficulty / 2.0 }, keep, &mut self.rng);
                (context.observation, context.plan, context.steps) = (&page, plan, steps);
                let tag = if react {
                    "react"
                } else if keep {
                    action_tag(action)
                } else {
                    "revise"
                };
                (self.prompts.turn(context, kind, lines)?, turn_completion(revision, action, observation, !react, self.naming), tag)
            }
            Decided::Answer { observation, steps, text } => {
                (context.observation, context.steps) = (observation, steps);
                (self.prompts.answer(context, lines)?, text.clone(), "answer")
            }
        };
        let mut example = self.encode(&messages, &completion, tag)?;
        if let (Decided::Turn { action, .. }, Naming::NameAndId) = (decided, self.naming) {
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

/// The bytes of a completion that hold its element's id, where the grammar forces it: no other element that the action could name has this
/// name. Unforced, the id would be the hardest part of an action to learn, and for nothing.
fn forced_id(action: &Action, page: &Observation, completion: &str) -> Option<Range<usize>> {
    let target = page.element(action.target()?)?;
    let candidate = |element: &Element| match action {
        Action::Type { .. } => element.takes_text(),
        Action::Select { .. } => element.takes_option(),
        _ => !element.takes_text() && !element.takes_option(),
    };
    let same_name = page.elements.iter().filter(|element| element.name == target.name && candidate(element)).count();
    let named = Naming::NameAndId.of(target);
    let end = completion.find(&named)? + named.len();
    (same_name == 1).then(|| end - target.id.to_string().len()..end)
}

/// The tokens that lie within `bytes`, given where each token ends.
fn tokens_within(ends: &[usize], bytes: Range<usize>) -> Range<usize> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let inside: Vec<usize> = starts
        .zip(ends)
        .enumerate()
        .filter(|(_, (start, end))| *start >= bytes.start && **end <= bytes.end)
        .map(|(index, _)| index)
        .collect();
    match (inside.first(), inside.last()) {
        (Some(first), Some(last)) => *first..last + 1,
        _ => 0..0,
    }
}

/// How often a decision is taken into the examples: rare kinds (revisions, answers) always, plans more often as the difficulty
/// rises, the many plain turns of a long episode less often.
fn share(decided: &Decided, turns: usize, difficulty: f32) -> f64 {
    match decided {
        Decided::Plan { .. } => f64::from(0.2 + difficulty).min(1.0),
        Decided::Answer { .. } => 1.0,
        Decided::Turn { revision, .. } if *revision != Revision::Keep => 1.0,
        Decided::Turn { action: Action::Answer { .. }, .. } => 0.3,
        Decided::Turn { .. } => (10.0 / turns.max(1) as f64).min(1.0),
    }
}

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

/// The page with only a share of its elements (and, for a plain turn, of its lines), the target always among them.
fn thin(observation: &Observation, action: &Action, share: f32, drop_text: bool, rng: &mut StdRng) -> Observation {
    let mut page = observation.clone();
    if share >= 1.0 {
        return page;
    }
    let total = page.elements.len();
    let keep = 2.0f32.max(total as f32 * share).round() as usize;
    let mut others: Vec<u32> = page.elements.iter().map(|element| element.id).filter(|id| Some(*id) != action.target()).collect();
    others.shuffle(rng);
    let kept: HashSet<u32> = others.into_iter().take(keep.saturating_sub(1)).chain(action.target()).collect();
    page.elements.retain(|element| kept.contains(&element.id));
    if drop_text {
        let marker = |line: &str| page.elements.iter().any(|element| line.contains(&format!("[#{}]", element.id)));
        let lines: Vec<&str> = observation.text.lines().filter(|line| marker(line) || rng.random_bool(f64::from(share))).collect();
        page.text = lines.join("\n");
    }
    page
}

impl ExampleSource for Demonstrations {
    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "asked": self.asked, "left": self.left })
    }

    fn restore(&mut self, state: &serde_json::Value) {
        self.asked = state["asked"].as_u64().unwrap_or_default();
        self.left = serde_json::from_value(state["left"].clone()).unwrap_or_default();
    }

    fn sample(&mut self, difficulty: f32, count: usize) -> Vec<Example> {
        self.asked += 1;
        self.rng = StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.asked));
        let mut failures = 0;
        while self.left.len() < count.max(256) && failures < 100 {
            let Some(demonstration) = self.play(difficulty) else {
                failures += 1;
                continue;
            };
            let turns = demonstration.decisions.len();
            for decided in &demonstration.decisions {
                if self.rng.random_bool(share(decided, turns, difficulty)) {
                    match self.example(&demonstration, decided, difficulty) {
                        Ok(example) => self.left.extend(example),
                        Err(error) => tracing::warn!(%error, "an example could not be made"),
                    }
                }
            }
        }
        self.left.shuffle(&mut self.rng);
        self.left.split_off(self.left.len().saturating_sub(count))
    }
}

/// Texts that a tokenizer for this suite should know: prompts and completions of `episodes` demonstrations.
pub fn corpus(config: &PlannersConfig, episodes: usize, seed: u64) -> Result<Vec<String>> {
    let prompts = Prompts::new(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let templates: Vec<_> = milepost_suites::bundled().iter().filter(|template| !template.held_out).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut texts = Vec::new();
    for index in 0..episodes {
        let instance = templates[index % templates.len()].instantiate(rng.random_range(TRAIN_SEEDS));
        let Some(demonstration) = runtime.block_on(demonstrate(&instance))? else { continue };
        texts.push(demonstration.task.goal.clone());
        for decided in &demonstration.decisions {
            let (observation, completion) = match decided {
                Decided::Plan { observation, steps } => (observation, steps.iter().map(|step| format!("{step}\n")).collect()),
                Decided::Turn { observation, revision, action, .. } => {
                    (observation, turn_completion(revision, action, observation, true, config.prompt_profile.naming()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page(elements: &[(u32, &str, &str)]) -> Observation {
        let element =
            |(id, role, name): &(u32, &str, &str)| Element { id: *id, role: (*role).into(), name: (*name).into(), ..Element::default() };
        Observation { elements: elements.iter().map(element).collect(), ..Observation::default() }
    }

    fn forced<'a>(page: &Observation, id: u32, completion: &'a str) -> Option<&'a str> {
        forced_id(&Action::Click(id), page, completion).map(|bytes| &completion[bytes])
    }

    #[test]
    fn an_id_is_forced_where_its_name_is_the_only_one() {
        let page = page(&[(1, "link", "Cart"), (2, "textbox", "Cart"), (13, "link", "Home"), (14, "button", "Home")]);
        assert_eq!(forced(&page, 1, "keep\nclick \"Cart\" 1"), Some("1"));
        assert_eq!(forced(&page, 13, "click \"Home\" 13"), None);
    }

    #[test]
    fn tokens_are_taken_whole() {
        assert_eq!(tokens_within(&[2, 4, 5, 6, 9], 4..6), 2..4);
        assert_eq!(tokens_within(&[2, 4, 5, 6, 9], 3..5), 2..3);
        assert_eq!(tokens_within(&[2, 9], 4..6), 0..0);
    }
}
