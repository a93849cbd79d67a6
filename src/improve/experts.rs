//! Expert trajectories as one-step problems (2509.20616, section 2): the oracle plays, and at each of its states the model is asked as well.

use std::sync::Mutex;

use anyhow::Result;
use async_trait::async_trait;
use milepost_learners::rewards::{Match, expert_match};
use milepost_planners::{ModelPolicy, PlannersConfig, turn_completion};
use milepost_runtime::{Answered, Call, Context, Decision, Error, Planned, Policy, Role, Span};
use milepost_text::TextModel;

use super::update::RewardedCall;

/// How the expert's states are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The expert's own words are examples (supervised).
    Imitate,
    /// The model's samples are compared with the expert's action, so many a state.
    Match(usize),
}

/// The oracle with the model beside it.
pub struct Shadow<'a> {
    /// Who plays.
    pub expert: &'a dyn Policy,
    /// Who is asked.
    pub model: &'a ModelPolicy,
    /// The model's text side.
    pub text: &'a TextModel,
    /// The prompts' settings.
    pub config: &'a PlannersConfig,
    /// What the states are for.
    pub purpose: Use,
    /// Names the task, for groups.
    pub task: String,
    /// What was found.
    pub calls: Mutex<Vec<RewardedCall>>,
}

impl Shadow<'_> {
    fn note(&self, call: RewardedCall) {
        self.calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(call);
    }

    /// The expert's words in the place of what the model said to the same prompt.
    fn imitate(&self, mut call: Call, words: &str, group: String) -> milepost_runtime::Result<()> {
        call.completion_ids = self.text.encode_completion(words).map_err(|error| Error::Engine(error.to_string()))?;
        let count = call.completion_ids.len();
        (call.logprobs, call.free_logprobs, call.temperature) = (vec![0.0; count], vec![0.0; count], 0.0);
        call.spans = vec![Span { role: call.role, start: 0, end: count }];
        self.note(RewardedCall { group, reward: 1.0, call });
        Ok(())
    }
}

#[async_trait]
impl Policy for Shadow<'_> {
    fn name(&self) -> &str {
        self.expert.name()
    }

    async fn plan(&self, context: Context<'_>) -> milepost_runtime::Result<(Vec<Planned>, Vec<Call>)> {
        let planned = self.expert.plan(context).await?;
        if self.purpose == Use::Imitate {
            let words: String = planned.0.iter().map(|step| format!("{step}\n")).collect();
            // A plan of the model that cannot be read has its prompt all the same, but there is none to take it from.
            if let Ok((_, calls)) = self.model.plan(context).await {
                for call in calls.into_iter().filter(|call| call.role == Role::Planner).take(1) {
                    self.imitate(call, &format!("{words}end"), format!("{} plan", self.task))?;
                }
            }
        }
        Ok(planned)
    }

    async fn turn(&self, context: Context<'_>) -> milepost_runtime::Result<Decision> {
        let decision = self.expert.turn(context).await?;
        let group = format!("{} turn {}", self.task, context.steps.len());
        let samples = if let Use::Match(samples) = self.purpose { samples } else { 1 };
        for sample in 0..samples {
            let seed = context.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((context.steps.len() * samples + sample) as u64);
            let mut said = self.model.turn(Context { seed, ..context }).await?;
            let Some(call) = said.calls.pop() else { continue };
            match self.purpose {
                Use::Imitate => {
                    let naming = self.config.prompt_profile.naming();
                    let planned = self.config.planner.plans();
                    let words = turn_completion(&decision.revision, &decision.action, context.observation, planned, naming);
                    self.imitate(call, &words, group.clone())?;
                }
                Use::Match(_) => {
                    let right = said.revision == decision.revision
                        && expert_match(&said.action, std::slice::from_ref(&decision.action), Match::Folded);
                    self.note(RewardedCall { group: group.clone(), reward: f64::from(u8::from(right)), call });
                }
            }
        }
        Ok(decision)
    }

    async fn answer(&self, context: Context<'_>) -> milepost_runtime::Result<Answered> {
        self.expert.answer(context).await
    }
}

/// Writes the calls, a line each.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &std::path::Path, calls: &[RewardedCall]) -> Result<()> {
    let lines = calls.iter().map(|call| Ok(serde_json::to_string(call)? + "\n")).collect::<Result<String>>()?;
    let partial = path.with_extension("partial");
    std::fs::write(&partial, lines)?;
    Ok(std::fs::rename(&partial, path)?)
}
