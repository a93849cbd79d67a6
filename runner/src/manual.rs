//! Carries out action lines that a person or a script writes, without a model.

use std::sync::Arc;

use milepost_runtime::text::unquote;
use milepost_runtime::{Action, ActionKind, Environment, Error, Observation, Outcome, Result, Task, Tool};

/// An environment in which action lines are carried out one after another.
pub struct ManualSession<'a> {
    task: &'a Task,
    environment: &'a mut dyn Environment,
    tools: &'a [Arc<dyn Tool>],
    observation: Observation,
}

/// The result of one line.
#[derive(Clone, Debug, PartialEq)]
pub enum LineResult {
    /// The line is empty or a comment, and nothing was done.
    Skipped,
    /// The line ends the session: `quit`, `answer` or `stop`.
    Ended,
    /// The action was carried out or refused, and the page was observed again.
    Acted(Outcome),
}

impl<'a> ManualSession<'a> {
    /// Opens the task's start page and observes it.
    ///
    /// # Errors
    /// The page cannot be opened or observed.
    pub async fn open(task: &'a Task, environment: &'a mut dyn Environment, tools: &'a [Arc<dyn Tool>]) -> Result<Self> {
        environment.reset(task).await?;
        let observation = environment.observe().await?;
        Ok(Self { task, environment, tools, observation })
    }

    /// Returns the latest observation; after a tool call it holds the tool's result.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// Carries out one line. A line that cannot be parsed, and an action that the page or a tool refuses, give a failed outcome.
    ///
    /// # Errors
    /// The environment fails.
    pub async fn run_line(&mut self, line: &str) -> Result<LineResult> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(LineResult::Skipped);
        }
        if line == "quit" {
            return Ok(LineResult::Ended);
        }
        let outcome = match parse_line(line, &self.observation) {
            Ok(Action::Answer { .. } | Action::Stop(_)) => return Ok(LineResult::Ended),
            Ok(action) => self.perform(&action).await?,
            Err(error) => Outcome::failed(error.to_string()),
        };
        self.observation = self.environment.observe().await?;
        self.observation.tool_result.clone_from(&outcome.result);
        Ok(LineResult::Acted(outcome))
    }

    async fn perform(&mut self, action: &Action) -> Result<Outcome> {
        if let Some(reason) = action.invalid_on(&self.observation) {
            return Ok(Outcome::failed(format!("invalid: {reason}")));
        }
        let Action::Call { tool, arguments } = action else { return self.environment.act(action).await };
        Ok(match self.tools.iter().find(|known| known.form().name == *tool) {
            None => Outcome::failed(format!("invalid: there is no tool {tool:?}")),
            Some(known) => match known.call(arguments, self.task).await {
                Ok(result) => Outcome { result: Some(result), ..Outcome::done() },
                Err(error) => Outcome::failed(error.to_string()),
            },
        })
    }
}

/// Parses an action line. Besides its id, an element may be named by its role and name, as in `click button "Save"`.
fn parse_line(line: &str, observation: &Observation) -> Result<Action> {
    let mut words = line.splitn(3, ' ');
    if let (Some(verb), Some(role), Some(rest)) = (words.next(), words.next(), words.next())
        && ActionKind::from_word(verb).is_some_and(ActionKind::names_element)
        && role.parse::<u32>().is_err()
        && rest.starts_with('"')
    {
        let (name, tail) = unquote("action", rest)?;
        let element = observation.find(role, &name).ok_or_else(|| Error::BadInput(format!("there is no {role} {name:?} on the page")))?;
        return Action::parse(&format!("{verb} {} {}", element.id, tail.trim()));
    }
    Action::parse(line)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use milepost_runtime::Element;
    use milepost_runtime::action::ToolForm;
    use serde_json::{Value, json};

    use super::*;

    /// A page with one button, which records the actions that reach it.
    #[derive(Default)]
    struct OneButton {
        acted: Vec<Action>,
    }

    #[async_trait]
    impl Environment for OneButton {
        async fn reset(&mut self, _: &Task) -> Result<()> {
            Ok(())
        }
        async fn observe(&mut self) -> Result<Observation> {
            let button = Element { id: 7, role: "button".into(), name: "Save all".into(), ..Element::default() };
            Ok(Observation { elements: vec![button], ..Observation::default() })
        }
        async fn act(&mut self, action: &Action) -> Result<Outcome> {
            self.acted.push(action.clone());
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

    /// A tool that returns its arguments.
    struct Echo;

    #[async_trait]
    impl Tool for Echo {
        fn form(&self) -> ToolForm {
            ToolForm { name: "echo".into(), description: String::new(), schema: json!({ "type": "object" }) }
        }
        async fn call(&self, arguments: &Value, _: &Task) -> Result<String> {
            Ok(arguments.to_string())
        }
    }

    /// Runs the lines in a session of their own; returns their results, the last tool result and the actions that reached the page.
    async fn run(lines: &[&str]) -> (Vec<LineResult>, Option<String>, Vec<Action>) {
        let (task, tools): (_, [Arc<dyn Tool>; 1]) = (Task::new("x", "http://a.org/").unwrap(), [Arc::new(Echo)]);
        let mut page = OneButton::default();
        let mut session = ManualSession::open(&task, &mut page, &tools).await.unwrap();
        let mut results = Vec::new();
        for line in lines {
            results.push(session.run_line(line).await.unwrap());
        }
        let told = session.observation().tool_result.clone();
        (results, told, page.acted)
    }

    fn failed(result: &LineResult) -> &str {
        match result {
            LineResult::Acted(Outcome { ok: false, error: Some(error), .. }) => error,
            other => panic!("{other:?} did not fail"),
        }
    }

    #[tokio::test]
    async fn an_element_is_named_by_its_id_or_by_role_and_name() {
        let (results, _, acted) = run(&["click 7", "  click button \"Save all\"  "]).await;
        assert_eq!(results, [LineResult::Acted(Outcome::done()), LineResult::Acted(Outcome::done())]);
        assert_eq!(acted, [Action::Click(7), Action::Click(7)]);
    }

    #[tokio::test]
    async fn empty_lines_and_comments_are_skipped_and_three_words_end_the_session() {
        let (results, _, acted) = run(&["", "  # a comment", "quit", "answer", "stop \"enough\""]).await;
        use LineResult::{Ended, Skipped};
        assert_eq!(results, [Skipped, Skipped, Ended, Ended, Ended]);
        assert!(acted.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_carried_out_fails_with_its_reason() {
        let (results, _, acted) = run(&["click 8", "click button \"Send\"", "call nothing {}", "fly away"]).await;
        assert!(failed(&results[0]).starts_with("invalid: "), "{}", failed(&results[0]));
        assert!(failed(&results[1]).contains("there is no button \"Send\" on the page"), "{}", failed(&results[1]));
        assert_eq!(failed(&results[2]), "invalid: there is no tool \"nothing\"");
        assert!(!failed(&results[3]).is_empty() && acted.is_empty());
    }

    #[tokio::test]
    async fn a_tools_result_is_in_the_next_observation() {
        let (results, told, _) = run(&["call echo {\"a\":1}"]).await;
        assert!(matches!(&results[0], LineResult::Acted(outcome) if outcome.ok));
        assert_eq!(told.as_deref(), Some("{\"a\":1}"));
    }
}
