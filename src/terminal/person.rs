//! A person at the terminal, who answers questions while events arrive.

use std::io::{BufRead, Write};

use tokio::sync::mpsc;

/// A person's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with a note.
    Approve(Option<String>),
    /// No, with a note.
    Deny(Option<String>),
    /// Neither yes nor no.
    Unclear,
}

impl Answer {
    /// Parses a line: `y` or `n`, then an optional note.
    pub fn parse(line: &str) -> Self {
        let (word, note) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let note = Some(note.trim().to_owned()).filter(|note| !note.is_empty());
        match word.to_ascii_lowercase().as_str() {
            "y" | "yes" | "approve" => Self::Approve(note),
            "n" | "no" | "deny" => Self::Deny(note),
            _ => Self::Unclear,
        }
    }
}

/// A person at the terminal. Lines are read from the first question on, but returned only while a question is open.
#[derive(Default)]
pub struct Person {
    lines: Option<mpsc::UnboundedReceiver<String>>,
    asked: bool,
}

impl Person {
    /// Prints the question.
    pub fn ask(&mut self) {
        let mut out = std::io::stderr();
        let _ = write!(out, "approve? [y/n, then a note if you like] ").and_then(|()| out.flush());
        self.lines.get_or_insert_with(read_lines);
        self.asked = true;
    }

    /// Closes the question.
    pub fn settle(&mut self) {
        self.asked = false;
    }

    /// Waits for the next line; returns `None` at the end of the input. While no question is open, it never returns.
    pub async fn line(&mut self) -> Option<String> {
        match &mut self.lines {
            Some(lines) if self.asked => lines.recv().await,
            _ => std::future::pending().await,
        }
    }
}

/// Reads the lines of stdin on a thread of its own, which ends with the process.
fn read_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed_with_their_notes() {
        for (line, answer) in [
            ("y", Answer::Approve(None)),
            ("Yes go on\n", Answer::Approve(Some("go on".into()))),
            ("n  that is the wrong shop", Answer::Deny(Some("that is the wrong shop".into()))),
            ("", Answer::Unclear),
            ("yesterday", Answer::Unclear),
        ] {
            assert_eq!(Answer::parse(line), answer, "{line}");
        }
    }
}
