//! Turns recorded episodes into rollouts, the form that the learner reads: token ids and rebuilt masks.

use std::sync::Arc;

use milepost_learners::policy::{ModelCall, Rollout};
use milepost_runtime::{Call, Episode, Observation, Role};
use milepost_text::{GrammarCompiler, hash16, rebuild_masks};

use crate::error::{Result, ResultExt};

/// Makes rollouts from recorded episodes of one model.
pub struct RolloutReader<'a> {
    /// Compiles the recorded grammars.
    pub compiler: &'a GrammarCompiler,
    /// The roles whose tokens are trained.
    pub roles: &'a [Role],
}

impl RolloutReader<'_> {
    /// Makes the rollout of an episode, without rewards.
    ///
    /// # Errors
    /// A recorded grammar does not allow its recorded completion, because the episode was made by another model or is damaged.
    pub fn rollout(&self, episode: &Episode, group: &str) -> Result<Rollout> {
        let episode_id = || format!("episode {}", episode.id);
        let mut calls = Vec::new();
        for call in episode.calls.iter().filter(|call| call.role == Role::Planner) {
            calls.push(self.turn(call, "plan".into()).with_context(episode_id)?);
        }
        for step in &episode.steps {
            let goal = step.reached.last().map_or(0, |reached| reached + 1).max(step.cursor);
            for call in &step.calls {
                let call = self.turn(call, anchor(&step.observation, goal)).with_context(episode_id)?;
                calls.push(ModelCall { turn: Some(step.turn), ..call });
            }
        }
        // An executor's call outside the steps was malformed and ended the episode. Its state is the last page, as it would be for a readable
        // call.
        let goal = episode.plans.last().map_or(0, |plan| plan.cursor);
        let page = episode.last_observation.as_ref().map_or_else(String::new, |page| anchor(page, goal));
        for (role, anchor) in [(Role::Executor, page.clone()), (Role::Summarizer, format!("answer {page}"))] {
            for call in episode.calls.iter().filter(|call| call.role == role) {
                calls.push(self.turn(call, anchor.clone()).with_context(episode_id)?);
            }
        }
        calls.retain(|call| call.trained_tokens() > 0);
        let (id, group, success) = (episode.id.clone(), group.to_owned(), episode.success == Some(true));
        Ok(Rollout { id, group, success, calls, ..Rollout::default() })
    }

    /// Makes the rollout's record of one call, with the masks of its grammar.
    ///
    /// # Errors
    /// The grammar does not allow the completion.
    pub fn turn(&self, call: &Call, anchor: String) -> Result<ModelCall> {
        let count = call.completion_ids.len();
        let masks = match &call.grammar {
            None => vec![None; count],
            Some(grammar) => {
                let masks = rebuild_masks(self.compiler, grammar, &call.completion_ids)?;
                masks.iter().map(|mask| Some(Arc::from(mask.words()))).collect()
            }
        };
        let trained = |i: usize| call.spans.iter().any(|span| (span.start..span.end).contains(&i) && self.roles.contains(&span.role));
        Ok(ModelCall {
            prompt: call.prompt_ids.clone(),
            completion: call.completion_ids.clone(),
            trained: (0..count).map(trained).collect(),
            masks,
            old_logprobs: call.logprobs.clone(),
            temperature: call.temperature,
            anchor,
            ..ModelCall::default()
        })
    }
}

/// Identifies a state by the content of the page, without element ids and hosts, and by the next plan step.
fn anchor(page: &Observation, goal: usize) -> String {
    let mut shown = format!("{}\0{}", page.path(), page.readable());
    for element in &page.elements {
        shown.push_str(&format!("\0{}\0{}\0{}", element.role, element.name, element.value.as_deref().unwrap_or_default()));
    }
    format!("{} {goal}", hash16(shown.as_bytes()))
}

#[cfg(test)]
mod tests {
    use milepost_runtime::{Action, Element, Outcome, Revision, Span, Step, Task};
    use milepost_text::TextModel;

    use super::*;

    fn page(host: &str, id: u32, name: &str) -> Observation {
        let link = Element { id, role: "link".into(), name: name.into(), ..Element::default() };
        Observation { url: format!("http://{host}/a"), text: format!("go [#{id}] now"), elements: vec![link], ..Observation::default() }
    }

    fn call(role: Role, words: &str, text: &TextModel, spans: &[(Role, usize, usize)]) -> Call {
        let completion_ids = text.encode_completion(words).unwrap();
        Call {
            role,
            prompt_ids: vec![1],
            spans: spans.iter().map(|(role, start, end)| Span { role: *role, start: *start, end: *end }).collect(),
            grammar: None,
            free_logprobs: vec![-0.5; completion_ids.len()],
            logprobs: vec![-0.5; completion_ids.len()],
            completion_ids,
            temperature: 1.0,
            seed: 1,
            generation: String::new(),
            latency_ms: 0.0,
        }
    }

    #[test]
    fn a_state_is_identified_without_element_ids_and_hosts() {
        assert_eq!(anchor(&page("a.example", 3, "Next"), 1), anchor(&page("b.example:81", 7, "Next"), 1));
        assert_ne!(anchor(&page("a.example", 3, "Next"), 1), anchor(&page("a.example", 3, "Back"), 1));
        assert_ne!(anchor(&page("a.example", 3, "Next"), 1), anchor(&page("a.example", 3, "Next"), 2));
    }

    #[test]
    fn only_tokens_of_the_roles_are_trained_and_a_malformed_call_comes_last() {
        let text = TextModel::load(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/seed"))).unwrap();
        let compiler = GrammarCompiler::new(&text).unwrap();
        let mut episode = Episode::begin(Task::new("x", "http://a.example/").unwrap(), "adaplan", "g");
        let turn = call(Role::Executor, "keep click 3", &text, &[(Role::Planner, 0, 1), (Role::Executor, 1, 3)]);
        let end = page("a.example", 5, "End");
        episode.last_observation = Some(end.clone());
        episode.calls.push(call(Role::Summarizer, "done", &text, &[(Role::Summarizer, 0, 1)]));
        episode.calls.push(call(Role::Planner, "keep", &text, &[(Role::Planner, 0, 1)]));
        episode.calls.push(call(Role::Executor, "nonsense", &text, &[(Role::Executor, 0, 1)]));
        episode.steps.push(Step {
            turn: 0,
            observation: page("a.example", 3, "Next"),
            revision: Revision::Keep,
            plan_version: 1,
            cursor: 0,
            action: Action::parse("click 3").unwrap(),
            outcome: Outcome::done(),
            calls: vec![turn],
            reached: Vec::new(),
            timing: Default::default(),
            screenshot: None,
        });
        let trained = |roles: &[Role]| -> Vec<(String, usize)> {
            let rollout = RolloutReader { compiler: &compiler, roles }.rollout(&episode, "group").unwrap();
            let name = |turn: &ModelCall| turn.turn.map_or(turn.anchor.clone(), |turn| format!("turn {turn}"));
            rollout.calls.iter().map(|turn| (name(turn), turn.trained_tokens())).collect()
        };
        let named = |all: &[(&str, usize)]| all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>();
        assert_eq!(trained(&[Role::Planner]), named(&[("plan", 1), ("turn 0", 1)]));
        let (last, answer) = (anchor(&end, 0), format!("answer {}", anchor(&end, 0)));
        assert_eq!(trained(&[Role::Executor]), named(&[("turn 0", 2), (&last, 1)]));
        assert_eq!(trained(&[Role::Planner, Role::Executor]), named(&[("plan", 1), ("turn 0", 3), (&last, 1)]));
        assert_eq!(trained(&[Role::Summarizer]), named(&[(&answer, 1)]));
    }
}
