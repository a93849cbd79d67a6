//! Judges: what is asked about an episode, what is answered, and all answers about one episode.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::episode::Episode;
use crate::error::Result;
use crate::reward::JudgeRef;

/// What a judge is asked about an episode.
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
    /// Can its steps be carried out and their ends be told?
    pub executability: f64,
    /// Is it in the right form?
    pub standardization: f64,
}

impl PlanScores {
    /// The mean of the three.
    pub fn mean(&self) -> f64 {
        (self.correctness + self.executability + self.standardization) / 3.0
    }
}

/// A judge's answer; a mean where several samples were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "verdict")]
pub enum Judgement {
    /// One verdict a sample.
    Completeness(Vec<bool>),
    /// 0 none, 1 partial, 2 full.
    Adherence(f64),
    /// 0 not finished, 1 finished with redundancy, 2 finished efficiently.
    EndToEnd(f64),
    /// The plan's scores.
    PlanQuality(PlanScores),
}

/// An answer with its author.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged<T> {
    /// The answer.
    pub verdict: T,
    /// Who gave it.
    pub by: JudgeRef,
}

/// Judges finished episodes.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Who judges, for records and caches: everything beside episode and question that the answer depends on.
    fn identity(&self) -> String;

    /// The answer.
    ///
    /// # Errors
    /// The question cannot be answered: the verdict is missing, never zero.
    async fn judge(&self, episode: &Episode, question: Question) -> Result<Judged<Judgement>>;
}

/// Whose milestones were watched. The acting policy's own are no choice: it could write trivial ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MilestoneSource {
    /// The suite's reference milestones, true by the server's state.
    Reference,
    /// Milestones written by this generation, which is not the one that acts.
    Frozen {
        /// Id of the generation.
        generation: String,
    },
}

/// A milestone that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Which one.
    pub milestone: usize,
    /// The turn whose observation first showed it.
    pub turn: u32,
}

/// Which milestones an episode reached, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MilestonesReached {
    /// Whose they are.
    pub source: MilestoneSource,
    /// How many there are.
    pub count: usize,
    /// Those that were reached.
    pub reached: Vec<Reached>,
}

/// All that was judged about one episode; what is not there is missing, not zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdicts {
    /// Completeness, one verdict a sample.
    pub completeness: Option<Judged<Vec<bool>>>,
    /// Adherence by step, 0 to 2.
    pub adherence: Vec<Option<Judged<f64>>>,
    /// End-to-end quality, 0 to 2.
    pub end_to_end: Option<Judged<f64>>,
    /// The plan's scores.
    pub plan_quality: Option<Judged<PlanScores>>,
    /// Milestones reached.
    pub milestones: Option<MilestonesReached>,
    /// A potential critic's estimate of the progress in each state, the one after the last step included; it takes the place of
    /// the labels that the milestones give (MiRA, 2603.19685).
    pub potential: Option<Vec<f64>>,
    /// Actions of an expert by step, any of which is right; `None` where no expert is known.
    pub experts: Vec<Option<Vec<Action>>>,
}

impl Verdicts {
    /// Asks a judge these questions; an answer that it cannot give stays missing.
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

    /// All questions there are about an episode.
    pub fn questions(episode: &Episode) -> Vec<Question> {
        let steps = (0..episode.steps.len()).map(|step| Question::Adherence { step });
        [Question::Completeness, Question::EndToEnd, Question::PlanQuality].into_iter().chain(steps).collect()
    }

    /// Puts an answer in its place.
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
