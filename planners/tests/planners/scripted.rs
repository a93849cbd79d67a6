//! An engine that answers from a list, and a site of three pages, on which the tests of this crate run.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use milepost_runtime::{
    Action, Call, Element, Engine, Environment, Error, GenerateRequest, Generated, Generation, Observation, Outcome, Result, Span, Task,
};

/// An engine that answers each request with the next text of a list, and records the requests.
#[derive(Debug, Default)]
pub struct ScriptedEngine {
    answers: Mutex<VecDeque<String>>,
    requests: Mutex<Vec<GenerateRequest>>,
    /// The maximum length of a prompt in bytes; longer ones are refused.
    max_prompt_bytes: Option<usize>,
}

impl ScriptedEngine {
    /// Creates an engine that gives these answers, in order, to prompts of at most `max_prompt_bytes`.
    pub fn new(answers: &[&str], max_prompt_bytes: Option<usize>) -> Self {
        Self { answers: Mutex::new(answers.iter().map(|text| (*text).to_owned()).collect()), max_prompt_bytes, ..Self::default() }
    }

    /// Returns the requests that were answered, oldest first.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the prompt of the n-th answered request.
    pub fn prompt(&self, n: usize) -> String {
        self.requests()[n].messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n---\n")
    }
}

#[async_trait]
impl Engine for ScriptedEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let length: usize = request.messages.iter().map(|message| message.content.len()).sum();
        if let Some(limit) = self.max_prompt_bytes.filter(|limit| length > *limit) {
            return Err(Error::PromptTooLong { tokens: length, limit, reserved: 0 });
        }
        let text = self.answers.lock().unwrap().pop_front().ok_or_else(|| Error::Engine("the script has no more answers".into()))?;
        // Each byte is one token.
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

    fn generation(&self) -> Generation {
        Generation { base: "script".into(), ..Generation::default() }
    }
}

/// The names of the pages. Each page has a field `Search` (1) and links (from 2 on) to all pages.
pub const PAGES: [&str; 3] = ["home", "cart", "done"];

/// A site in memory. A link leads to the page of its name; the page `done` shows "thank you".
#[derive(Default)]
pub struct Site {
    page: usize,
    field: String,
    /// How many more times the browser crashes when the page `cart` is observed.
    crashes: usize,
    /// How many times the environment was reset.
    pub resets: usize,
}

impl Site {
    /// Creates a site whose browser crashes this number of times.
    pub fn with_crashes(crashes: usize) -> Self {
        Self { crashes, ..Self::default() }
    }
}

#[async_trait]
impl Environment for Site {
    async fn reset(&mut self, _: &Task) -> Result<()> {
        self.resets += 1;
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observation> {
        if self.crashes > 0 && self.page == 1 {
            self.crashes -= 1;
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
