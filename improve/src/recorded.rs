//! Recorded successes as expert trajectories (2509.20616, section 2): a recorded episode is replayed without a browser, so that a model can be
//! asked for its decision in each state. The episode may have been recorded with another model or planner.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::store::unrecorded_agent;
use milepost_runtime::{
    Action, Agent, Answered, Call, Context, Decision, Environment, Episode, Error, Milestone, NoListener, Observation, Outcome, Planned,
    Policy, Result, Step, Stop, Task, Tool, Verdict, Verifier,
};
use tokio_util::sync::CancellationToken;

/// Selects the shortest success of each task. A task with several different successes of that length is left out, because an exact match with
/// one of them would count the right actions of the others as wrong.
pub fn shortest(successes: Vec<Episode>) -> Vec<Episode> {
    let mut tasks: BTreeMap<String, Vec<Episode>> = BTreeMap::new();
    for episode in successes {
        tasks.entry(task_name(&episode.task)).or_default().push(episode);
    }
    let only = |mut episodes: Vec<Episode>| {
        let least = episodes.iter().map(|episode| episode.steps.len()).min()?;
        episodes.retain(|episode| episode.steps.len() == least);
        episodes.iter().all(|other| named_actions(other) == named_actions(&episodes[0])).then(|| episodes.swap_remove(0))
    };
    tasks.into_values().filter_map(only).collect()
}

/// Returns the name of a task: its template and seed, or its start address and goal.
pub fn task_name(task: &Task) -> String {
    match &task.source {
        Some(source) => format!("{} {}", source.template, source.seed),
        None => format!("{} {}", task.start_url, task.goal),
    }
}

/// Lists the actions with the role and name of their elements instead of the ids, which change from run to run.
fn named_actions(episode: &Episode) -> Vec<String> {
    let named = |step: &Step| {
        let element = step.action.target().and_then(|id| step.observation.element(id));
        let line = step.action.to_string();
        element.map_or(line.clone(), |element| line.replacen(&element.id.to_string(), &format!("{} {}", element.role, element.name), 1))
    };
    episode.steps.iter().map(named).collect()
}

/// A policy that repeats the decisions of a recorded episode.
pub struct Recorded<'a>(pub &'a Episode);

#[async_trait]
impl Policy for Recorded<'_> {
    fn name(&self) -> &str {
        &self.0.policy
    }

    async fn plan(&self, _: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)> {
        let steps = self.0.plans.first().map(|plan| plan.steps.as_slice()).unwrap_or_default();
        Ok((steps.iter().map(|step| Planned { text: step.text.clone(), check: step.milestone.check.clone() }).collect(), Vec::new()))
    }

    async fn turn(&self, context: Context<'_>) -> Result<Decision> {
        let step = self.0.steps.get(context.steps.len()).ok_or_else(record_over)?;
        Ok(Decision { revision: step.revision.clone(), action: step.action.clone(), calls: Vec::new() })
    }

    async fn answer(&self, _: Context<'_>) -> Result<Answered> {
        Ok(Answered { text: self.0.answer.clone().unwrap_or_default(), calls: Vec::new() })
    }
}

/// Returns the error of a replay that needs more than was recorded.
fn record_over() -> Error {
    Error::BadInput("the record ends before its answer".into())
}

/// An environment that repeats the observations and outcomes of a recorded episode.
struct RecordedEnvironment<'a> {
    episode: &'a Episode,
    /// The number of observations so far; there is one per turn.
    observed: &'a AtomicUsize,
}

impl RecordedEnvironment<'_> {
    fn step(&self) -> Result<&Step> {
        self.observed.load(Ordering::Relaxed).checked_sub(1).and_then(|turn| self.episode.steps.get(turn)).ok_or_else(record_over)
    }
}

#[async_trait]
impl Environment for RecordedEnvironment<'_> {
    async fn reset(&mut self, _: &Task) -> Result<()> {
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observation> {
        self.observed.fetch_add(1, Ordering::Relaxed);
        self.step().map(|step| step.observation.clone())
    }

    async fn act(&mut self, _: &Action) -> Result<Outcome> {
        self.step().map(|step| step.outcome.clone())
    }

    /// Returns the text as it is: secrets were removed when it was recorded.
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

/// A tool that repeats its recorded outcomes.
struct RecordedTool {
    form: ToolForm,
    outcomes: Mutex<VecDeque<Outcome>>,
}

#[async_trait]
impl Tool for RecordedTool {
    fn form(&self) -> ToolForm {
        self.form.clone()
    }

    async fn call(&self, _: &serde_json::Value, _: &Task) -> Result<String> {
        let outcome = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).pop_front().ok_or_else(record_over)?;
        match outcome.ok {
            true => Ok(outcome.result.unwrap_or_default()),
            false => Err(Error::BadInput(outcome.error.unwrap_or_default())),
        }
    }
}

/// A verifier that repeats the recorded verdicts of milestones without a check.
struct RecordedVerifier<'a> {
    episode: &'a Episode,
    observed: &'a AtomicUsize,
}

#[async_trait]
impl Verifier for RecordedVerifier<'_> {
    async fn verify(&self, milestone: &Milestone, _: &Observation) -> Result<(Verdict, Vec<Call>)> {
        let turn = self.observed.load(Ordering::Relaxed).saturating_sub(1) as u32;
        let mut known = self.episode.plans.iter().flat_map(|plan| &plan.steps).map(|step| &step.milestone);
        let reached = known.any(|known| known.text == milestone.text && known.verdict == Verdict::True && known.at == Some(turn));
        Ok((if reached { Verdict::True } else { Verdict::Unknown }, Vec::new()))
    }
}

/// Replays an episode with `policy`, which should make the recorded decisions; tools repeat their recorded results. Returns whether the replay went
/// exactly as recorded.
///
/// # Errors
/// The policy fails.
pub async fn replay(episode: &Episode, policy: &dyn Policy, tools: &[Arc<dyn Tool>], seed: u64, cancel: CancellationToken) -> Result<bool> {
    let recorded_tool = |form: ToolForm| {
        let of_tool = |step: &&Step| matches!(&step.action, Action::Call { tool, .. } if *tool == form.name);
        // A call that was refused never reached the tool.
        let calls = episode.steps.iter().filter(of_tool).filter(|step| step.outcome.result.is_some());
        let outcomes = Mutex::new(calls.map(|step| step.outcome.clone()).collect());
        Arc::new(RecordedTool { form, outcomes }) as Arc<dyn Tool>
    };
    let (tools, observed): (Vec<_>, _) = (tools.iter().map(|tool| recorded_tool(tool.form())).collect(), AtomicUsize::new(0));
    let (mut environment, verifier, listener) =
        (RecordedEnvironment { episode, observed: &observed }, RecordedVerifier { episode, observed: &observed }, &mut NoListener);
    let agent = Agent { verifier: Some(&verifier), seed, ..unrecorded_agent(policy, &mut environment, &tools, listener, cancel) };
    let mut task = episode.task.clone();
    // The model is asked many times in each state, so the recorded time limit does not apply.
    task.limits.max_seconds = NO_TIME_LIMIT;
    let again = agent.run(task).await?;
    if let Some(Stop::Failed(reason)) = &again.stop {
        return Err(Error::Engine(reason.clone()));
    }
    let as_before =
        |(then, now): (&Step, &Step)| (then.outcome.ok, then.cursor, then.plan_version) == (now.outcome.ok, now.cursor, now.plan_version);
    let same = again.steps.len() == episode.steps.len() && episode.steps.iter().zip(&again.steps).all(as_before);
    Ok(same && again.stop == Some(Stop::Answered))
}

/// A time limit in seconds that no replay reaches.
const NO_TIME_LIMIT: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod tests {
    use milepost_runtime::{Element, Plan, Revision};
    use serde_json::json;

    use super::*;

    /// Builds a success with these clicks, each on a page of its own and given as the button's name and id, then a tool call and the answer.
    fn success(goal: &str, clicks: &[(&str, u32)]) -> Episode {
        let mut episode = Episode::begin(Task::new(goal, "http://desk.local/").unwrap(), "adaplan", "base");
        let page = |name: &str, id| Observation {
            url: "http://desk.local/".into(),
            title: name.into(),
            elements: vec![Element { id, role: "button".into(), name: name.into(), ..Element::default() }],
            ..Observation::default()
        };
        let call = Action::Call { tool: "fetch".into(), arguments: json!({"url": "http://desk.local/open"}) };
        let done: Vec<_> = clicks.iter().map(|(name, id)| (page(name, *id), Action::Click(*id), Outcome::done())).collect();
        let result = Outcome { result: Some("three are open".into()), ..Outcome::done() };
        let answer = (page("Open", 3), Action::Answer { text: None }, Outcome::done());
        let turns = done.into_iter().chain([(page("Desk", 9), call, result), answer]);
        episode.steps =
            turns.enumerate().map(|(turn, (observation, action, outcome))| step(turn as u32, observation, action, outcome)).collect();
        episode.plans = vec![Plan::new(vec![Planned { text: "look".into(), check: None }])];
        (episode.stop, episode.success, episode.answer) = (Some(Stop::Answered), Some(true), Some("3".into()));
        episode
    }

    fn step(turn: u32, observation: Observation, action: Action, outcome: Outcome) -> Step {
        let (calls, reached, timing) = (Vec::new(), Vec::new(), Default::default());
        Step {
            turn,
            observation,
            revision: Revision::Keep,
            plan_version: 1,
            cursor: 0,
            action,
            outcome,
            calls,
            reached,
            timing,
            screenshot: None,
        }
    }

    #[test]
    fn the_shortest_success_is_selected_if_it_is_the_only_one_of_its_length() {
        let all = vec![
            success("a", &[("Desk", 1), ("Open", 2)]),
            success("a", &[("Open", 7)]),
            // The same success, recorded when the button had another id.
            success("a", &[("Open", 8)]),
            success("b", &[("Open", 7)]),
            success("b", &[("All", 7)]),
        ];
        let found = shortest(all);
        assert_eq!(found.iter().map(|episode| (episode.task.goal.as_str(), episode.steps.len())).collect::<Vec<_>>(), [("a", 3)]);
    }

    /// A policy that records the observations that it is shown.
    struct Watching<'a>(Recorded<'a>, Mutex<Vec<(String, Option<String>)>>);

    #[async_trait]
    impl Policy for Watching<'_> {
        fn name(&self) -> &str {
            "watching"
        }
        async fn plan(&self, context: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)> {
            self.0.plan(context).await
        }
        async fn turn(&self, context: Context<'_>) -> Result<Decision> {
            let seen = (context.observation.title.clone(), context.observation.tool_result.clone());
            self.1.lock().unwrap().push(seen);
            self.0.turn(context).await
        }
        async fn answer(&self, context: Context<'_>) -> Result<Answered> {
            self.0.answer(context).await
        }
    }

    /// A tool that must not be called, because its result is in the record.
    struct Network;

    #[async_trait]
    impl Tool for Network {
        fn form(&self) -> ToolForm {
            ToolForm { name: "fetch".into(), description: String::new(), schema: json!({"type": "object"}) }
        }
        async fn call(&self, _: &serde_json::Value, _: &Task) -> Result<String> {
            panic!("a replay went to the network")
        }
    }

    #[tokio::test]
    async fn a_replay_shows_the_record_and_repeats_no_side_effect() {
        let episode = success("a", &[("Desk", 1), ("Open", 2)]);
        let tools: [Arc<dyn Tool>; 1] = [Arc::new(Network)];
        let watching = Watching(Recorded(&episode), Mutex::default());
        assert!(replay(&episode, &watching, &tools, 1, CancellationToken::new()).await.unwrap());
        let told = Some("three are open".to_owned());
        let pages = [("Desk", None), ("Open", None), ("Desk", None), ("Open", told)].map(|(title, told)| (title.to_owned(), told));
        assert_eq!(*watching.1.lock().unwrap(), pages);
        let again = async |episode: &Episode, tools: &[Arc<dyn Tool>]| {
            replay(episode, &Recorded(episode), tools, 1, CancellationToken::new()).await
        };
        let mut other = episode.clone();
        other.steps[1].cursor = 1;
        assert!(!again(&other, &tools).await.unwrap(), "the cursor of the plan differs");
        assert!(!again(&episode, &[]).await.unwrap(), "a tool that it used is missing");
        let mut hasty = episode.clone();
        hasty.task.limits.max_seconds = 0;
        assert!(again(&hasty, &tools).await.unwrap(), "the recorded time limit does not apply");
        let short = Episode { steps: episode.steps[..2].to_vec(), ..episode.clone() };
        assert!(again(&short, &tools).await.unwrap_err().to_string().contains("before its answer"));
    }
}
