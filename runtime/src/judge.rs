//! Judges: the questions about an episode, their answers, and all answers about one episode.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::episode::Episode;
use crate::error::Result;
use crate::reward::JudgeRef;

/// A question to a judge about an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Question {
    /// Do the executed actions cover all that the goal needs? (RLTR, 2508.19598, section 3.2)
    Completeness,
    /// Does the action of a step comply with the plan step under the cursor? (PilotRL, 2508.00344, section 2.2)
    Adherence {
        /// Index of the step.
        step: usize,
    },
    /// Was the task finished, and without redundancy? (PilotRL, section 2.2)
    EndToEnd,
    /// How good is the plan? (PilotRL, section 2.2)
    PlanQuality,
}

/// The three scores of a plan, 1 to 5 each (PilotRL, 2508.00344, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanScores {
    /// Would it reach the goal?
    pub correctness: f64,
    /// Can its steps be carried out, and can their completion be recognised?
    pub executability: f64,
    /// Is it in the right form?
    pub standardization: f64,
}

impl PlanScores {
    /// Returns the mean of the three scores.
    pub fn mean(&self) -> f64 {
        (self.correctness + self.executability + self.standardization) / 3.0
    }
}

/// A judge's answer; a mean if several samples were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "verdict")]
pub enum Judgement {
    /// One verdict per sample.
    Completeness(Vec<bool>),
    /// 0: none, 1: partial, 2: full.
    Adherence(f64),
    /// 0: not finished, 1: finished with redundancy, 2: finished efficiently.
    EndToEnd(f64),
    /// The plan's scores.
    PlanQuality(PlanScores),
}

/// An answer and the judge that gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged<T> {
    /// The answer.
    pub verdict: T,
    /// The judge.
    pub by: JudgeRef,
}

/// Judges finished episodes.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Identifies the judge for records and caches: everything besides episode and question that the answer depends on.
    fn identity(&self) -> String;

    /// Answers the question about this episode.
    ///
    /// # Errors
    /// The question cannot be answered; the verdict is then missing, never zero.
    async fn judge(&self, episode: &Episode, question: Question) -> Result<Judged<Judgement>>;
}

/// The origin of the milestones whose progress is recorded. The acting policy's own milestones are excluded: it could write trivial ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MilestoneSource {
    /// The suite's reference milestones, which the server's state decides.
    Reference,
    /// Milestones written by a frozen generation other than the acting one.
    Frozen {
        /// Id of the generation.
        generation: String,
    },
}

/// A milestone that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Index of the milestone.
    pub milestone: usize,
    /// The turn whose observation first showed it as true.
    pub turn: u32,
}

/// The milestones that an episode reached, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MilestonesReached {
    /// Their origin.
    pub source: MilestoneSource,
    /// The number of milestones, reached or not.
    pub count: usize,
    /// The milestones that were reached.
    pub reached: Vec<Reached>,
}

/// All verdicts about one episode; an absent verdict is missing, not zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdicts {
    /// Completeness, one verdict per sample.
    pub completeness: Option<Judged<Vec<bool>>>,
    /// Adherence by step, 0 to 2.
    pub adherence: Vec<Option<Judged<f64>>>,
    /// End-to-end quality, 0 to 2.
    pub end_to_end: Option<Judged<f64>>,
    /// The plan's scores.
    pub plan_quality: Option<Judged<PlanScores>>,
    /// The milestones that were reached.
    pub milestones: Option<MilestonesReached>,
    /// A potential critic's estimate of the progress in each state, the state after the last step included; it replaces the labels that the
    /// milestones give (MiRA, 2603.19685).
    pub potential: Option<Vec<f64>>,
    /// An expert's actions by step, any of which is right; `None` for a step for which no expert is known.
    pub experts: Vec<Option<Vec<Action>>>,
}

impl Verdicts {
    /// Asks a judge these questions. The verdict of a question that it cannot answer stays missing.
    pub async fn ask(judge: &dyn Judge, episode: &Episode, questions: &[Question]) -> Self {
        let mut verdicts = Self { adherence: vec![None; episode.steps.len()], ..Self::default() };
        for question in questions {
            match judge.judge(episode, *question).await {
                Ok(judged) => verdicts.put(*question, judged),
                Err(error) => tracing::debug!(%error, ?question, judge = judge.identity(), "no verdict"),
            }
        }
        verdicts
    }

    /// Returns all questions about an episode.
    pub fn questions(episode: &Episode) -> Vec<Question> {
        let steps = (0..episode.steps.len()).map(|step| Question::Adherence { step });
        [Question::Completeness, Question::EndToEnd, Question::PlanQuality].into_iter().chain(steps).collect()
    }

    /// Stores an answer to a question.
    pub fn put(&mut self, question: Question, Judged { verdict, by }: Judged<Judgement>) {
        match (verdict, question) {
            (Judgement::Completeness(verdict), _) => self.completeness = Some(Judged { verdict, by }),
            (Judgement::EndToEnd(verdict), _) => self.end_to_end = Some(Judged { verdict, by }),
            (Judgement::PlanQuality(verdict), _) => self.plan_quality = Some(Judged { verdict, by }),
            (Judgement::Adherence(verdict), Question::Adherence { step }) => {
                if self.adherence.len() <= step {
                    self.adherence.resize(step + 1, None);
                }
                self.adherence[step] = Some(Judged { verdict, by });
            }
            (Judgement::Adherence(_), _) => {}
        }
    }
}
