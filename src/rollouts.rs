//! Recorded episodes as the learner reads them: token ids, rebuilt masks, rewards.

use std::sync::Arc;

use anyhow::{Context, Result};
use milepost_learners::policy::{Rollout, Turn};
use milepost_runtime::{Call, Episode, Observation, Role};
use milepost_text::{GrammarCompiler, hash16, rebuild_masks};

/// Makes rollouts of one model's episodes.
pub struct Reader<'a> {
    /// Compiles the recorded grammars.
    pub compiler: &'a GrammarCompiler,
    /// Whose tokens are trained.
    pub roles: &'a [Role],
}

impl Reader<'_> {
    /// The calls of an episode, without rewards.
    ///
    /// # Errors
    /// A recorded grammar that does not allow what was recorded under it: the episode is another model's, or damaged.
    pub fn rollout(&self, episode: &Episode, group: &str) -> Result<Rollout> {
        let place = || format!("episode {}", episode.id);
        let mut turns = Vec::new();
        for call in episode.calls.iter().filter(|call| call.role == Role::Planner) {
            turns.push(self.turn(call, "plan".into()).with_context(place)?);
        }
        for step in &episode.steps {
            let goal = step.reached.last().map_or(0, |reached| reached + 1).max(step.cursor);
            for call in &step.calls {
                let call = self.turn(call, anchor(&step.observation, goal)).with_context(place)?;
                turns.push(Turn { turn: Some(step.turn), ..call });
            }
        }
        // An executor's call outside the steps is one that could not be read and ended the episode.
        for (role, anchor) in [(Role::Executor, "malformed"), (Role::Summarizer, "answer")] {
            for call in episode.calls.iter().filter(|call| call.role == role) {
                turns.push(self.turn(call, anchor.into()).with_context(place)?);
            }
        }
        turns.retain(|turn| turn.trained_tokens() > 0);
        Ok(Rollout { id: episode.id.clone(), group: group.to_owned(), success: episode.success == Some(true), reward: 0.0, turns })
    }

    /// One call, with the masks of its grammar.
    pub fn turn(&self, call: &Call, anchor: String) -> Result<Turn> {
        let count = call.completion_ids.len();
        let masks = match &call.grammar {
            None => vec![None; count],
            Some(grammar) => {
                let masks = rebuild_masks(self.compiler, grammar, &call.completion_ids)?;
                masks.iter().map(|mask| Some(Arc::from(mask.words()))).collect()
            }
        };
        let trained = |i: usize| call.spans.iter().any(|span| (span.start..span.end).contains(&i) && self.roles.contains(&span.role));
        Ok(Turn {
            prompt: call.prompt_ids.clone(),
            completion: call.completion_ids.clone(),
            trained: (0..count).map(trained).collect(),
            masks,
            old_logprobs: call.logprobs.clone(),
            temperature: call.temperature,
            anchor,
            ..Turn::default()
        })
    }
}

/// Names a state by what a page shows, without element ids and hosts, and by the plan step that is next.
fn anchor(page: &Observation, goal: usize) -> String {
    let mut shown = format!("{}\0{}", page.path(), page.text);
    for element in &page.elements {
        shown.push_str(&format!("\0{}\0{}\0{}", element.role, element.name, element.value.as_deref().unwrap_or_default()));
    }
    format!("{} {goal}", hash16(shown.as_bytes()))
}
