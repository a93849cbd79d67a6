//! The ground-truth judge, which takes its verdicts from the server's state, the facts that it served and a reference run, without a model.

use async_trait::async_trait;
use milepost_runtime::{Action, Episode, Error, Judge, JudgeRef, Judged, Judgement, Observation, Plan, Question, Result, Step};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::plan_quality;
use crate::plan_steps::Intent;

/// Section `suite` of the configuration: settings of the ground-truth judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroundTruthConfig {
    /// The maximum number of actions of an efficient episode, as a multiple of the oracle's (PilotRL, 2508.00344, does not give it).
    pub efficient: f64,
}

impl Default for GroundTruthConfig {
    fn default() -> Self {
        Self { efficient: 1.2 }
    }
}

/// The oracle's run of the same task. It is empty if the run is not known; the verdicts that depend on it are then missing.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// The pages that the oracle saw, in order.
    pub observations: Vec<Observation>,
}

impl Reference {
    /// Takes the reference from an oracle's episode.
    pub fn of(oracle: &Episode) -> Self {
        Self { observations: oracle.steps.iter().map(|step| step.observation.clone()).collect() }
    }

    /// Returns its pages, one for each action, the closing `answer` included.
    fn pages(&self) -> Result<&[Observation]> {
        match self.observations.is_empty() {
            true => Err(Error::Judge("the oracle's run is not known".into())),
            false => Ok(&self.observations),
        }
    }
}

/// The judge of the episode that was played on one instance.
pub struct GroundTruth<'a> {
    instance: &'a Instance,
    reference: &'a Reference,
    config: GroundTruthConfig,
}

impl<'a> GroundTruth<'a> {
    /// Creates the judge of an instance that was played.
    pub fn new(instance: &'a Instance, reference: &'a Reference, config: GroundTruthConfig) -> Self {
        Self { instance, reference, config }
    }

    /// Returns 2 if the task was solved with hardly more actions than the oracle's, 1 if it was solved with more, 0 if it was not solved.
    fn end_to_end(&self, episode: &Episode) -> Result<f64> {
        let solved = episode.success.ok_or_else(|| Error::Judge("nobody checked the outcome".into()))?;
        let most = self.reference.pages()?.len() as f64 * self.config.efficient;
        Ok(match (solved, episode.steps.len() as f64 <= most) {
            (false, _) => 0.0,
            (true, false) => 1.0,
            (true, true) => 2.0,
        })
    }

    fn plan_quality(&self, episode: &Episode) -> Result<Judgement> {
        let plan = episode.plan().ok_or_else(|| Error::Judge("the episode has no plan".into()))?;
        let seen: Vec<&Observation> = episode.steps.iter().map(|step| &step.observation).collect();
        Ok(Judgement::PlanQuality(plan_quality::score(plan, &self.instance.milestones(), self.reference.pages()?, &seen)))
    }
}

/// Returns 2 if the action of a step serves the plan step under the cursor, 1 if it serves another pending step, 0 if it serves none. When
/// all steps are done, only `answer` serves. The verdict is missing if the step under the cursor is not in the suite's form.
fn adherence(episode: &Episode, step: &Step) -> Result<f64> {
    let plan = episode.plans.iter().find(|plan| plan.version == step.plan_version);
    let plan: &Plan = plan.ok_or_else(|| Error::Judge(format!("turn {} has no plan", step.turn)))?;
    let serves = |text: &str| {
        let intent = Intent::parse(text).map_err(|_| Error::Judge(format!("the plan step {text:?} is in no form of the suite")))?;
        Ok::<bool, Error>(intent.served_by(&step.action, &step.observation))
    };
    let mut pending = plan.steps.iter().skip(step.cursor);
    let Some(current) = pending.next() else {
        return Ok(if matches!(step.action, Action::Answer { .. }) { 2.0 } else { 0.0 });
    };
    if serves(&current.text)? {
        return Ok(2.0);
    }
    // A later step that is not in the suite's form counts as not served: if it made the verdict missing, one such step would hide every
    // action that serves no step.
    Ok(f64::from(u8::from(pending.any(|other| matches!(serves(&other.text), Ok(true))))))
}

#[async_trait]
impl Judge for GroundTruth<'_> {
    fn identity(&self) -> String {
        format!("suite {} {}", self.config.efficient, self.instance.name())
    }

    async fn judge(&self, episode: &Episode, question: Question) -> Result<Judged<Judgement>> {
        let verdict = match question {
            Question::Completeness => Judgement::Completeness(vec![self.instance.complete()]),
            Question::EndToEnd => Judgement::EndToEnd(self.end_to_end(episode)?),
            Question::PlanQuality => self.plan_quality(episode)?,
            Question::Adherence { step } => {
                let step = episode.steps.get(step).ok_or_else(|| Error::Judge(format!("the episode has no step {step}")))?;
                Judgement::Adherence(adherence(episode, step)?)
            }
        };
        let by = JudgeRef { model: "suite".into(), samples: 1, parsed: 1, ..JudgeRef::default() };
        Ok(Judged { verdict, by })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use milepost_runtime::{Element, Outcome, Revision, Task};

    use super::*;

    const PLAN: &str = "type \"{{secret:password}}\" into \"Password\" and click \"Log in\" => url contains \"/tickets\"\n\
                        click \"Cart\" => url contains \"/cart\"\nselect \"Oslo\" in \"City\" => field \"City\" is \"Oslo\"\n\
                        fetch \"/api/x\" => text visible \"x\"\nopen \"/new\" => url contains \"/new\"\nanswer";

    /// Makes an episode of one step with this plan and the cursor at `cursor`.
    fn episode(plan: &str, cursor: usize, action: &str) -> Episode {
        let element = |id, role: &str, name: &str| Element { id, role: role.into(), name: name.into(), ..Element::default() };
        let elements = vec![
            element(1, "textbox", "Password"),
            element(2, "button", "Sign in"),
            element(3, "link", "Basket"),
            element(4, "combobox", "City"),
        ];
        let mut episode = Episode::begin(Task::new("x", "http://site.local/").unwrap(), "adaplan", "acting");
        episode.plans.push(Plan::new(Plan::parse_steps(plan).unwrap()));
        episode.steps.push(Step {
            turn: 0,
            observation: Observation { url: "http://site.local/".into(), elements, ..Observation::default() },
            revision: Revision::Keep,
            plan_version: 1,
            cursor,
            action: Action::parse(action).unwrap(),
            outcome: Outcome::done(),
            calls: Vec::new(),
            reached: Vec::new(),
            timing: Default::default(),
            screenshot: None,
        });
        episode
    }

    fn check_adherence(cursor: usize, action: &str, want: f64) {
        let episode = episode(PLAN, cursor, action);
        assert_eq!(adherence(&episode, &episode.steps[0]).unwrap(), want, "{action} at {cursor}");
    }

    #[test]
    fn an_action_serves_the_step_under_the_cursor_another_or_none() {
        // Both actions of a step with two actions serve it, and so does any wording of a label.
        check_adherence(0, "type 1 \"{{secret:password}}\"", 2.0);
        check_adherence(0, "click 2", 2.0);
        check_adherence(0, "click 3", 1.0);
        check_adherence(1, "click 3", 2.0);
        check_adherence(2, "select 4 \"Oslo\"", 2.0);
        check_adherence(2, "select 4 \"Rome\"", 0.0);
        check_adherence(2, "goto \"/new\"", 1.0);
        check_adherence(3, "call fetch {\"url\":\"/api/x\"}", 2.0);
        // A step that is done is no longer pending.
        check_adherence(2, "click 3", 0.0);
        check_adherence(4, "answer", 1.0);
        check_adherence(6, "answer", 2.0);
        check_adherence(6, "click 3", 0.0);
    }

    #[test]
    fn a_verdict_that_cannot_be_given_is_missing() {
        let free = |plan: &str, action: &str| {
            let episode = episode(plan, 0, action);
            adherence(&episode, &episode.steps[0])
        };
        assert!(free("get the cart", "click 3").is_err());
        // A later step that is not in the suite's form hides nothing.
        assert_eq!(free("click \"Cart\"\npay", "click 2").unwrap(), 0.0);
        assert_eq!(free("click \"Cart\"\npay", "click 3").unwrap(), 2.0);
        let mut react = episode(PLAN, 0, "click 3");
        react.plans.clear();
        assert!(adherence(&react, &react.steps[0]).is_err());
    }

    #[tokio::test]
    async fn end_to_end_counts_actions_against_the_oracles() {
        let instance = crate::template("shop_add").unwrap().instantiate(0);
        let reference = Reference { observations: vec![Observation::default(); 5] };
        let grade = async |reference: &Reference, success, steps: usize| {
            let mut episode = episode(PLAN, 0, "click 3");
            episode.steps = vec![episode.steps[0].clone(); steps];
            episode.success = success;
            let judge = GroundTruth::new(&instance, reference, GroundTruthConfig::default());
            judge.judge(&episode, Question::EndToEnd).await.ok().map(|judged| judged.verdict)
        };
        for (success, steps, want) in [(true, 6, 2.0), (true, 7, 1.0), (false, 3, 0.0)] {
            assert_eq!(grade(&reference, Some(success), steps).await, Some(Judgement::EndToEnd(want)));
        }
        assert_eq!(grade(&reference, None, 3).await, None);
        assert_eq!(grade(&Reference::default(), Some(true), 3).await, None);
    }
}
