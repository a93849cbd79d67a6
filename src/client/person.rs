//! A person at the terminal, who answers while events go on coming.

use std::io::{BufRead, Write};

use tokio::sync::mpsc;

/// What a person said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with a note.
    Approve(Option<String>),
    /// No, with a note.
    Deny(Option<String>),
    /// Neither.
    Unclear,
}

impl Answer {
    /// Reads a line: `y` or `n`, then a note.
    pub fn read(line: &str) -> Self {
        let (word, note) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let note = Some(note.trim().to_owned()).filter(|note| !note.is_empty());
        match word.to_ascii_lowercase().as_str() {
            "y" | "yes" | "approve" => Self::Approve(note),
            "n" | "no" | "deny" => Self::Deny(note),
            _ => Self::Unclear,
        }
    }
}

/// A person; what they type is read from the first question on, and heard while one is open.
#[derive(Default)]
pub struct Person {
    lines: Option<mpsc::UnboundedReceiver<String>>,
    asked: bool,
}

impl Person {
    /// Puts the question.
    pub fn ask(&mut self) {
        let mut out = std::io::stderr();
        let _ = write!(out, "approve? [y/n, then a note if you like] ").and_then(|()| out.flush());
        self.lines.get_or_insert_with(read_lines);
        self.asked = true;
    }

    /// The question is settled.
    pub fn settle(&mut self) {
        self.asked = false;
    }

    /// The next line; never, where no question is open; `None` where nobody is there any more.
    pub async fn line(&mut self) -> Option<String> {
        match &mut self.lines {
            Some(lines) if self.asked => lines.recv().await,
            _ => std::future::pending().await,
        }
    }
}

/// Lines of stdin; the thread that reads them ends with the process.
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
    fn answers_are_read_with_their_notes() {
        for (line, answer) in [
            ("y", Answer::Approve(None)),
            ("Yes go on\n", Answer::Approve(Some("go on".into()))),
            ("n  that is the wrong shop", Answer::Deny(Some("that is the wrong shop".into()))),
            ("", Answer::Unclear),
            ("yesterday", Answer::Unclear),
        ] {
            assert_eq!(Answer::read(line), answer, "{line}");
        }
    }
}
