//! Supervised examples from files: a directory of `*.jsonl`, one example a line.

use std::path::Path;

use anyhow::{Context, Result, bail};
use milepost_learners::sft::{Example, ExampleSource};
use milepost_runtime::{Error, Message};
use milepost_text::TextModel;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Deserialize;

/// One line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The chat before the answer; or `prompt`.
    #[serde(default)]
    messages: Vec<Message>,
    /// One message of the user; or `messages`.
    #[serde(default)]
    prompt: Option<String>,
    /// What the model should answer.
    completion: String,
}

/// The examples of a directory, shuffled anew each time round.
pub struct Dataset {
    examples: Vec<Example>,
    /// The order of this time round.
    order: Vec<usize>,
    next: usize,
    /// Times round.
    rounds: u64,
    seed: u64,
}

impl Dataset {
    /// Reads all `*.jsonl` of a directory.
    ///
    /// # Errors
    /// A directory without examples, or a line that is none; the message names file and line.
    pub fn load(directory: &Path, text: &TextModel, seed: u64) -> Result<Self> {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .with_context(|| format!("{} cannot be read; give a directory of *.jsonl files, or suite:bundled", directory.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        let mut examples = Vec::new();
        for file in files {
            let content = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            for (number, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let at = || format!("{} line {}", file.display(), number + 1);
                let line: Line = serde_json::from_str(line).with_context(|| format!("{}: not an example", at()))?;
                examples.push(line.example(text).with_context(at)?);
            }
        }
        if examples.is_empty() {
            bail!(Error::BadInput(format!(
                "{} holds no examples; write lines such as {{\"prompt\": \"…\", \"completion\": \"…\"}} into a .jsonl file",
                directory.display()
            )));
        }
        Ok(Self { order: (0..examples.len()).collect(), next: examples.len(), examples, rounds: 0, seed })
    }
}

impl Line {
    fn example(self, text: &TextModel) -> Result<Example> {
        let messages = match self.prompt {
            Some(prompt) if self.messages.is_empty() => vec![Message::user(prompt)],
            None if !self.messages.is_empty() => self.messages,
            _ => bail!(Error::BadInput("an example has either `messages` or `prompt`".into())),
        };
        let (prompt, completion) = (text.encode_prompt(&messages)?, text.encode_completion(&self.completion)?);
        Ok(Example { prompt, completion, tag: "example".into(), ..Example::default() })
    }
}

impl Dataset {
    /// Puts the examples in the order of this time round.
    fn shuffle(&mut self) {
        self.order = (0..self.examples.len()).collect();
        self.order.shuffle(&mut StdRng::seed_from_u64(self.seed.wrapping_add(self.rounds)));
    }
}

impl ExampleSource for Dataset {
    /// The next examples; there are no harder or easier ones.
    fn sample(&mut self, _: f32, count: usize) -> Vec<Example> {
        if self.next >= self.examples.len() {
            (self.rounds, self.next) = (self.rounds + 1, 0);
            self.shuffle();
        }
        let end = (self.next + count).min(self.examples.len());
        let taken = self.order[self.next..end].iter().map(|index| self.examples[*index].clone()).collect();
        self.next = end;
        taken
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "rounds": self.rounds, "next": self.next })
    }

    fn restore(&mut self, state: &serde_json::Value) {
        self.rounds = state["rounds"].as_u64().unwrap_or_default();
        self.next = state["next"].as_u64().and_then(|next| usize::try_from(next).ok()).unwrap_or(self.examples.len());
        self.shuffle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lines: &str) -> Result<Dataset> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("a.jsonl"), lines)?;
        let text = TextModel::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed")))?;
        Dataset::load(directory.path(), &text, 1)
    }

    #[test]
    fn every_example_comes_round_once() {
        let lines: String = (0..5).map(|n| format!("{{\"prompt\": \"goal {n}\", \"completion\": \"click {n}\"}}\n")).collect();
        let mut data = load(&lines).unwrap();
        let mut seen: Vec<_> = std::iter::repeat_with(|| data.sample(1.0, 2)).take(3).flatten().map(|example| example.completion).collect();
        assert_eq!(seen.len(), 5);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn a_line_that_is_no_example_is_named() {
        let message = |lines| format!("{:#}", load(lines).err().unwrap());
        assert!(message("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n").contains("a.jsonl line 2"));
        assert!(message("{\"completion\": \"b\"}").contains("`messages` or `prompt`"));
        assert!(message("").contains("holds no examples"));
    }
}
