//! An engine that answers from a list, and a site of a few pages: what stands above an engine is tested on them alone.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use milepost_runtime::{
    Action, Call, Element, Engine, Environment, Error, GenerateRequest, Generated, Generation, Observation, Outcome, Probes, Result,
    ScoreRequest, Span, Task,
};

/// Answers each request with the next text of its list and remembers the requests.
#[derive(Debug, Default)]
pub struct ScriptedEngine {
    answers: Mutex<VecDeque<String>>,
    requests: Mutex<Vec<GenerateRequest>>,
    /// Prompts longer than this, in bytes, are refused.
    longest: Option<usize>,
}

impl ScriptedEngine {
    /// An engine that will give these answers, in order, to prompts of at most `longest` bytes.
    pub fn new(answers: &[&str], longest: Option<usize>) -> Self {
        Self { answers: Mutex::new(answers.iter().map(|text| (*text).to_owned()).collect()), longest, ..Self::default() }
    }

    /// The requests that were answered, oldest first.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// The prompt of the n-th answered request.
    pub fn prompt(&self, n: usize) -> String {
        self.requests()[n].messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n---\n")
    }
}

#[async_trait]
impl Engine for ScriptedEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let length: usize = request.messages.iter().map(|message| message.content.len()).sum();
        if let Some(limit) = self.longest.filter(|limit| length > *limit) {
            return Err(Error::PromptTooLong { tokens: length, limit, reserved: 0 });
        }
        let text = self.answers.lock().unwrap().pop_front().ok_or_else(|| Error::Engine("the script has no more answers".into()))?;
        // One token a byte.
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        let call = Call {
            role: request.role,
            prompt_ids: Vec::new(),
            spans: vec![Span { role: request.role, start: 0, end: ids.len() }],
            logprobs: vec![0.0; ids.len()],
            free_logprobs: vec![0.0; ids.len()],
            grammar: request.grammar.clone(),
            temperature: request.temperature,
            seed: request.seed,
            generation: self.generation().id(),
            latency_ms: 0.0,
            completion_ids: ids,
        };
        self.requests.lock().unwrap().push(request);
        Ok(Generated { ends: (1..=text.len()).collect(), text, call })
    }

    async fn score(&self, _request: ScoreRequest) -> Result<Vec<f32>> {
        Err(Error::Engine("a script has no log-probabilities".into()))
    }

    fn generation(&self) -> Generation {
        Generation { base: "script".into(), ..Generation::default() }
    }

    async fn swap(&self, _adapter: &Path, _probes: &Probes) -> Result<Generation> {
        Err(Error::Engine("a script takes no adapter".into()))
    }

    async fn serve_base(&self) -> Result<Generation> {
        Ok(self.generation())
    }
}

/// A page: a field `Search` (1), and a link (from 2) to every page.
pub const PAGES: [&str; 3] = ["home", "cart", "done"];

/// A site in memory. A link leads to the page of its name; page `done` says "thank you".
#[derive(Default)]
pub struct Site {
    page: usize,
    field: String,
    /// How often the browser still dies when page `cart` is looked at.
    deaths: usize,
    /// How often it was started.
    pub resets: usize,
}

impl Site {
    /// A site whose browser dies so often.
    pub fn mortal(deaths: usize) -> Self {
        Self { deaths, ..Self::default() }
    }
}

#[async_trait]
impl Environment for Site {
    async fn reset(&mut self, _: &Task) -> Result<()> {
        self.resets += 1;
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observation> {
        if self.deaths > 0 && self.page == 1 {
            self.deaths -= 1;
            return Err(Error::EnvironmentGone("the browser was killed".into()));
        }
        let element = |id, role: &str, name: &str, value| Element { id, role: role.into(), name: name.into(), value, ..Element::default() };
        let mut elements = vec![element(1, "textbox", "Search", Some(self.field.clone()))];
        elements.extend(PAGES.iter().enumerate().map(|(index, name)| element(index as u32 + 2, "link", name, None)));
        let words = if self.page == 2 { "thank you" } else { "welcome" };
        Ok(Observation {
            url: format!("http://shop.local/{}", PAGES[self.page]),
            title: "Shop".into(),
            text: format!("{words}\n[#1]\n[#2] [#3] [#4]"),
            elements,
            ..Observation::default()
        })
    }

    async fn act(&mut self, action: &Action) -> Result<Outcome> {
        match action {
            Action::Click(id) => self.page = *id as usize - 2,
            Action::Type { text, .. } => self.field.clone_from(text),
            Action::Goto(url) => self.page = PAGES.iter().position(|page| url.ends_with(page)).unwrap_or(0),
            other => return Ok(Outcome::failed(format!("this site has no {other}"))),
        }
        Ok(Outcome::done())
    }

    fn scrubbed(&self, text: &str) -> String {
        text.to_owned()
    }

    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
