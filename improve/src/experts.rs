//! Expert trajectories as one-step problems (2509.20616, section 2): an expert plays, and the model is asked for its decision in each of the
//! expert's states as well. The lines of the plan are the first of these problems, because most failures of long tasks come from one wrong word
//! in the plan.

use std::sync::Mutex;

use async_trait::async_trait;
use milepost_learners::files;
use milepost_learners::policy::doubt;
use milepost_learners::rewards::{Match, expert_match};
use milepost_runtime::{Answered, Call, Context, Decision, Error, Planned, Policy, Role, Span};
use milepost_text::{GrammarCompiler, TextModel, rebuild_masks};

use crate::error::{Result, ResultExt};
use crate::host::PromptWriter;
use crate::update::RewardedCall;

/// The purpose for which the expert's states are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// The expert's own completions are supervised examples.
    Imitate,
    /// The model's samples are compared with the expert's action.
    Match(Samples),
}

/// The number of samples that are drawn in a state. A state in which the model is certain teaches nothing, so most samples are drawn in states
/// where it is in doubt (adaptive sampling as in Reinforce-Ada, 2510.04996).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Samples {
    /// The number of samples in every state.
    pub group: usize,
    /// The number of samples in a state where one of the first `group` samples was wrong; 0 draws `group` samples everywhere.
    pub in_doubt: usize,
    /// The [`doubt`] below which the first sample of a state stays the only one, if `in_doubt` is not 0.
    pub least_doubt: f64,
}

impl Samples {
    /// Returns the maximum number of samples in a state; it separates the seeds of two states.
    fn max_count(self) -> usize {
        self.group.max(self.in_doubt)
    }
}

/// The samples drawn in a state so far.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    count: usize,
    wrong: bool,
    sure: bool,
}

impl Taken {
    /// Returns whether another sample should be drawn.
    fn needs_more(self, samples: Samples) -> bool {
        !self.sure && (self.count < samples.group || (self.wrong && self.count < samples.in_doubt))
    }

    /// Counts one more sample.
    fn add(&mut self, samples: Samples, call: &Call, right: bool) {
        self.sure |= self.count == 0 && samples.in_doubt > 0 && doubt(call.logprobs.iter().copied()) < samples.least_doubt;
        self.wrong |= !right;
        self.count += 1;
    }
}

/// An expert's policy that also asks the model in each state and collects its answers.
pub struct ExpertWithModel<'a> {
    /// The policy that acts.
    pub expert: &'a dyn Policy,
    /// The model's policy, which is asked.
    pub model: &'a dyn Policy,
    /// The model's tokenizer and template.
    pub text: &'a TextModel,
    /// Compiles the grammars.
    pub compiler: &'a GrammarCompiler,
    /// Writes completions as the policies do.
    pub prompts: &'a dyn PromptWriter,
    /// The purpose for which the states are used.
    pub purpose: Purpose,
    /// The task's name, for groups.
    pub task: String,
    /// When an action counts as the expert's. A line of a plan always has to be identical to the expert's, because its checks are evaluated
    /// literally.
    pub matching: Match,
    /// The collected calls.
    pub calls: Mutex<Vec<RewardedCall>>,
}

impl ExpertWithModel<'_> {
    fn samples(&self) -> Samples {
        if let Purpose::Match(samples) = self.purpose { samples } else { Samples { group: 1, in_doubt: 0, least_doubt: 0.0 } }
    }

    fn collect(&self, call: RewardedCall) {
        self.calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(call);
    }

    /// Collects the expert's completion instead of the model's for the same prompt. It is left out if the grammar does not allow it, because an
    /// expert with another planner or prompt may write a completion that the model could not.
    fn imitate(&self, mut call: Call, words: &str, group: String) -> milepost_runtime::Result<()> {
        call.completion_ids = self.text.encode_completion(words).map_err(|error| Error::Engine(error.to_string()))?;
        if let Some(Err(error)) = call.grammar.as_ref().map(|grammar| rebuild_masks(self.compiler, grammar, &call.completion_ids)) {
            tracing::warn!(state = group, words, %error, "the expert's words are outside the grammar; the state is left out");
            return Ok(());
        }
        let count = call.completion_ids.len();
        (call.logprobs, call.free_logprobs, call.temperature) = (vec![0.0; count], vec![0.0; count], 0.0);
        call.spans = vec![Span { role: call.role, start: 0, end: count }];
        self.collect(RewardedCall::new(group, true, call));
        Ok(())
    }
}

/// Turns the lines of sampled plans into one-step problems. Each line of a plan, up to the first that differs from the expert's, was written in a
/// state of the expert. Lines on which all samples agree teach nothing and are left out.
fn plan_lines(text: &TextModel, sampled: &[Call], expert_plan: &str, group: &str) -> Vec<RewardedCall> {
    let mut lines: Vec<Vec<RewardedCall>> = Vec::new();
    for call in sampled {
        let (plan, ends) = (text.decode(&call.completion_ids), text.text_ends(&call.completion_ids));
        let mut place = 0;
        for (number, (own, expert)) in plan.split_inclusive('\n').zip(expert_plan.split_inclusive('\n')).enumerate() {
            let (start, end) = (ends.partition_point(|end| *end <= place), ends.partition_point(|end| *end <= place + own.len()));
            place += own.len();
            // Tokens after the span were forced when the token budget ran out; the policy did not choose them.
            if call.spans.first().is_some_and(|span| end > span.end) {
                break;
            }
            let right = own == expert;
            // A server does not report free log-probabilities.
            let cut = |list: &[f32]| list.get(..end).unwrap_or_default().to_vec();
            let line = Call {
                completion_ids: call.completion_ids[..end].to_vec(),
                logprobs: cut(&call.logprobs),
                free_logprobs: cut(&call.free_logprobs),
                spans: vec![Span { role: call.role, start, end }],
                ..call.clone()
            };
            lines.resize_with(lines.len().max(number + 1), Vec::new);
            lines[number].push(RewardedCall::new(format!("{group} {number}"), right, line));
            if !right {
                break;
            }
        }
    }
    let differ = |line: &Vec<RewardedCall>| line.iter().any(|call| call.reward != line[0].reward);
    lines.into_iter().filter(differ).flatten().collect()
}

#[async_trait]
impl Policy for ExpertWithModel<'_> {
    fn name(&self) -> &str {
        self.expert.name()
    }

    async fn plan(&self, context: Context<'_>) -> milepost_runtime::Result<(Vec<Planned>, Vec<Call>)> {
        let planned = self.expert.plan(context).await?;
        let words = format!("{}end", planned.0.iter().map(|step| format!("{step}\n")).collect::<String>());
        let group = format!("{} plan", self.task);
        let (mut sampled, mut taken, samples) = (Vec::new(), Taken::default(), self.samples());
        while taken.needs_more(samples) {
            let seed = context.seed.wrapping_mul(0xd1b5_4a32_d192_ed03).wrapping_add(taken.count as u64);
            let (right, call) = match self.model.plan(Context { seed, ..context }).await {
                Ok((plan, calls)) => (plan == planned.0, calls.into_iter().find(|call| call.role == Role::Planner)),
                // A malformed completion of this prompt counts as a wrong one.
                Err(Error::Malformed { call, .. }) => (false, Some(*call)),
                Err(error) => {
                    tracing::warn!(state = group, %error, "the model gave no plan here; this sample is left out");
                    (false, None)
                }
            };
            let Some(call) = call else {
                taken.count += 1;
                continue;
            };
            taken.add(samples, &call, right);
            sampled.push(call);
        }
        match self.purpose {
            Purpose::Imitate => sampled.into_iter().try_for_each(|call| self.imitate(call, &words, group.clone()))?,
            Purpose::Match(_) => plan_lines(self.text, &sampled, &words, &group).into_iter().for_each(|call| self.collect(call)),
        }
        Ok(planned)
    }

    async fn turn(&self, context: Context<'_>) -> milepost_runtime::Result<Decision> {
        let decision = self.expert.turn(context).await?;
        let group = format!("{} turn {}", self.task, context.steps.len());
        let (mut taken, samples) = (Taken::default(), self.samples());
        while taken.needs_more(samples) {
            let number = (context.steps.len() * samples.max_count() + taken.count) as u64;
            let seed = context.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
            let (right, call) = match self.model.turn(Context { seed, ..context }).await {
                Ok(mut sampled) => {
                    let matches = expert_match(&sampled.action, std::slice::from_ref(&decision.action), self.matching);
                    (matches && sampled.revision == decision.revision, sampled.calls.pop())
                }
                Err(Error::Malformed { call, .. }) => (false, Some(*call)),
                Err(error) => return Err(error),
            };
            let Some(call) = call else {
                taken.count += 1;
                continue;
            };
            taken.add(samples, &call, right);
            match self.purpose {
                Purpose::Imitate => {
                    let planning = self.prompts.planning();
                    let words = self.prompts.turn_completion(&decision.revision, &decision.action, context.observation, planning);
                    self.imitate(call, &words, group.clone())?;
                }
                Purpose::Match(_) => {
                    self.collect(RewardedCall::new(group.clone(), right, call));
                }
            }
        }
        Ok(decision)
    }

    async fn answer(&self, context: Context<'_>) -> milepost_runtime::Result<Answered> {
        self.expert.answer(context).await
    }
}

/// A policy that takes the first plan from an expert and everything else, later revisions included, from the model. PilotRL's first stage trains
/// an executor on given plans (2508.00344, section 2.2.1).
pub struct GivenPlan<'a> {
    /// The policy that plans.
    pub expert: &'a dyn Policy,
    /// The policy that acts.
    pub model: &'a dyn Policy,
}

#[async_trait]
impl Policy for GivenPlan<'_> {
    fn name(&self) -> &str {
        self.model.name()
    }

    async fn plan(&self, context: Context<'_>) -> milepost_runtime::Result<(Vec<Planned>, Vec<Call>)> {
        self.expert.plan(context).await
    }

    async fn turn(&self, context: Context<'_>) -> milepost_runtime::Result<Decision> {
        self.model.turn(context).await
    }

    async fn answer(&self, context: Context<'_>) -> milepost_runtime::Result<Answered> {
        self.model.answer(context).await
    }
}

/// Returns the number of calls and the number of right calls.
pub fn count(calls: &[RewardedCall]) -> (usize, usize) {
    (calls.len(), calls.iter().filter(|call| call.reward > 0.0).count())
}

/// Counts the calls in a file as [`count`] does; `None` if there is no file.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn counts(path: &std::path::Path) -> Result<Option<(usize, usize)>> {
    if !path.is_file() {
        return Ok(None);
    }
    let read = || format!("{} cannot be read", path.display());
    let text = std::fs::read_to_string(path).with_context(read)?;
    let calls = text.lines().map(serde_json::from_str).collect::<Result<Vec<RewardedCall>, serde_json::Error>>().with_context(read)?;
    Ok(Some(count(&calls)))
}

/// Writes the calls, one per line.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &std::path::Path, calls: &[RewardedCall]) -> Result<()> {
    let lines = calls.iter().map(|call| Ok(serde_json::to_string(call)? + "\n")).collect::<Result<String>>()?;
    Ok(files::replace(path, lines.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> TextModel {
        TextModel::load(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/seed"))).unwrap()
    }

    fn call(text: &TextModel, words: &str, logprob: f32) -> Call {
        let completion_ids = text.encode_completion(words).unwrap();
        let logprobs = vec![logprob; completion_ids.len()];
        Call {
            role: Role::Planner,
            prompt_ids: vec![1],
            spans: Vec::new(),
            grammar: None,
            free_logprobs: logprobs.clone(),
            logprobs,
            completion_ids,
            temperature: 0.8,
            seed: 1,
            generation: String::new(),
            latency_ms: 0.0,
        }
    }

    #[test]
    fn more_samples_are_drawn_where_the_model_is_in_doubt() {
        let text = seed();
        let taken = |samples: Samples, logprob: f32, wrong_at: usize| {
            let (call, mut taken) = (call(&text, "keep", logprob), Taken::default());
            while taken.needs_more(samples) {
                taken.add(samples, &call, taken.count != wrong_at);
            }
            taken.count
        };
        let samples = Samples { group: 4, in_doubt: 16, least_doubt: 0.05 };
        assert_eq!([taken(samples, -0.5, 9), taken(samples, -0.5, 3), taken(samples, -1e-6, 0)], [4, 16, 1]);
        let alike = Samples { in_doubt: 0, ..samples };
        assert_eq!([taken(alike, -0.5, 0), taken(alike, -1e-6, 0)], [4, 4]);
    }

    #[test]
    fn a_plan_is_compared_line_by_line_up_to_its_first_difference() {
        let text = seed();
        let line = |name: &str, field: &str| format!("type \"{name}\" into \"{field}\" [field \"{field}\" is \"{name}\"]\n");
        let plan = |name: &str, road: &str| format!("{}{}end", line(name, "User"), line(road, "Street"));
        let expert = plan("gina", "Park Road");
        let sampled = [expert.clone(), plan("emil", "Park Road"), plan("gina", "Mill Road"), plan("gina", "Park Road")]
            .map(|words| call(&text, &words, -0.5));
        let found = plan_lines(&text, &sampled, &expert, "task");
        let rewards = |group: &str| found.iter().filter(|call| call.group == group).map(|call| call.reward).collect::<Vec<_>>();
        assert_eq!(rewards("task 0"), [1.0, 0.0, 1.0, 1.0]);
        assert_eq!(rewards("task 1"), [1.0, 0.0, 1.0], "a plan is not compared after its first difference");
        assert_eq!(found.len(), 7, "all samples wrote `end`, which teaches nothing");
        let second = &found.iter().find(|call| call.group == "task 1").unwrap().call;
        let Span { start, end, .. } = second.spans[0];
        assert_eq!(text.decode(&second.completion_ids[start..end]), line("Park Road", "Street"));
        assert_eq!((second.completion_ids.len(), second.logprobs.len()), (end, end));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("calls.jsonl");
        assert_eq!(counts(&file).unwrap(), None);
        write(&file, &found).unwrap();
        assert_eq!(counts(&file).unwrap(), Some((7, 5)));
    }
}
