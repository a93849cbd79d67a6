//! Supervised examples from a directory of `*.jsonl` files, one example per line.

use std::path::Path;

use milepost_learners::sft::{Example, ExampleSource};
use milepost_runtime::Message;
use milepost_text::TextModel;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Deserialize;

use crate::error::{Error, Result, ResultExt};

/// One line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The chat before the completion; a line has either this or `prompt`.
    #[serde(default)]
    messages: Vec<Message>,
    /// A single message of the user; a line has either this or `messages`.
    #[serde(default)]
    prompt: Option<String>,
    /// The completion that the model should write.
    completion: String,
}

/// The examples of a directory, shuffled again in each epoch.
pub struct Dataset {
    examples: Vec<Example>,
    /// The order of the examples in this epoch.
    order: Vec<usize>,
    next: usize,
    /// The number of epochs so far.
    epochs: u64,
    seed: u64,
}

impl Dataset {
    /// Reads all `*.jsonl` files of a directory.
    ///
    /// # Errors
    /// The directory has no examples, or a line is not an example; the message names file and line.
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
            return Err(Error::bad_input(format!(
                "{} holds no examples; write lines such as {{\"prompt\": \"…\", \"completion\": \"…\"}} into a .jsonl file",
                directory.display()
            )));
        }
        Ok(Self { order: (0..examples.len()).collect(), next: examples.len(), examples, epochs: 0, seed })
    }
}

impl Line {
    fn example(self, text: &TextModel) -> Result<Example> {
        let messages = match self.prompt {
            Some(prompt) if self.messages.is_empty() => vec![Message::user(prompt)],
            None if !self.messages.is_empty() => self.messages,
            _ => return Err(Error::bad_input("an example has either `messages` or `prompt`")),
        };
        let (prompt, completion) = (text.encode_prompt(&messages)?, text.encode_completion(&self.completion)?);
        Ok(Example { prompt, completion, tag: "example".into(), ..Example::default() })
    }
}

impl Dataset {
    /// Shuffles the examples for this epoch.
    fn shuffle(&mut self) {
        self.order = (0..self.examples.len()).collect();
        self.order.shuffle(&mut StdRng::seed_from_u64(self.seed.wrapping_add(self.epochs)));
    }
}

impl ExampleSource for Dataset {
    /// Returns the next examples, whatever the difficulty.
    fn sample(&mut self, _: f32, count: usize) -> Vec<Example> {
        if self.next >= self.examples.len() {
            (self.epochs, self.next) = (self.epochs + 1, 0);
            self.shuffle();
        }
        let end = (self.next + count).min(self.examples.len());
        let taken = self.order[self.next..end].iter().map(|index| self.examples[*index].clone()).collect();
        self.next = end;
        taken
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "rounds": self.epochs, "next": self.next })
    }

    fn restore(&mut self, state: &serde_json::Value) {
        self.epochs = state["rounds"].as_u64().unwrap_or_default();
        self.next = state["next"].as_u64().and_then(|next| usize::try_from(next).ok()).unwrap_or(self.examples.len());
        self.shuffle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lines: &str) -> Result<Dataset> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.jsonl"), lines).unwrap();
        let text = TextModel::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/seed")))?;
        Dataset::load(directory.path(), &text, 1)
    }

    #[test]
    fn every_example_comes_once_an_epoch() {
        let lines: String = (0..5).map(|n| format!("{{\"prompt\": \"goal {n}\", \"completion\": \"click {n}\"}}\n")).collect();
        let mut data = load(&lines).unwrap();
        let mut seen: Vec<_> = std::iter::repeat_with(|| data.sample(1.0, 2)).take(3).flatten().map(|example| example.completion).collect();
        assert_eq!(seen.len(), 5);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn a_line_that_is_not_an_example_is_named() {
        let message = |lines| load(lines).err().unwrap().with_causes();
        assert!(message("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n").contains("a.jsonl line 2"));
        assert!(message("{\"completion\": \"b\"}").contains("`messages` or `prompt`"));
        assert!(message("").contains("holds no examples"));
    }
}
