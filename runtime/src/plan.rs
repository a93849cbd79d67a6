//! The global plan: numbered steps with a milestone each, a cursor that verified milestones move, and revisions.
//!
//! Text form, one step a line: `step text => check`. A revision is `keep`, or new steps for the suffix followed by `end`
//! or by `resume N` (the old steps from number N on follow).

use serde::{Deserialize, Serialize};

use crate::check::{Check, Verdict};
use crate::error::{Error, Result};
use crate::text::squash;

/// Maximum number of steps in a plan or a revision.
pub const MAX_STEPS: usize = 60;

/// The source of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictBy {
    /// The milestone's own check.
    Check,
    /// A verifier call.
    Verifier,
}

/// A checkable state of the world. Only a check or a verifier decides it, never the acting policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    /// The condition in words.
    pub text: String,
    /// The check that decides it without a model call.
    pub check: Option<Check>,
    /// Whether it holds, as far as is known.
    #[serde(default)]
    pub verdict: Verdict,
    /// The source of the verdict.
    #[serde(default)]
    pub by: Option<VerdictBy>,
    /// The turn in which it became true.
    #[serde(default)]
    pub at: Option<u32>,
}

impl Milestone {
    /// Makes a milestone whose verdict is unknown.
    pub fn new(text: impl Into<String>, check: Option<Check>) -> Self {
        Self { text: text.into(), check, verdict: Verdict::Unknown, by: None, at: None }
    }
}

/// The status of a plan step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// Not executed yet.
    Pending,
    /// Its milestone was verified.
    Done,
    /// A revision abandoned it; it stays in the plan.
    Failed,
}

/// One step of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The instruction in words.
    pub text: String,
    /// The milestone that shows that it is done.
    pub milestone: Milestone,
    /// Its status.
    pub status: StepStatus,
    /// The turn of the first action under this step.
    pub executed_at: Option<u32>,
}

/// A step as a planner writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The instruction in words.
    pub text: String,
    /// The check that decides whether it is done; without one a verifier decides.
    pub check: Option<Check>,
}

impl Planned {
    /// Parses `text => check` or `text`.
    ///
    /// # Errors
    /// The text is empty, or the check cannot be parsed.
    pub fn parse(line: &str) -> Result<Self> {
        let (text, check) = match line.split_once(" => ") {
            Some((text, check)) => (text, Some(Check::parse(check)?)),
            None => (line, None),
        };
        let text = squash(text);
        if text.is_empty() {
            return Err(Error::parse("plan step", line, "the step has no text"));
        }
        Ok(Self { text, check })
    }
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.check {
            Some(check) => write!(f, "{} => {check}", self.text),
            None => write!(f, "{}", self.text),
        }
    }
}

/// A planner's change of the plan at a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revision {
    /// The plan stays.
    #[default]
    Keep,
    /// The suffix is rewritten (AdaPlan, 2508.00344 equation 1: the executed prefix is frozen).
    Rewrite {
        /// New steps, which replace the pending ones.
        steps: Vec<Planned>,
        /// Number (from 1) of the pending step from which on the old plan follows the new steps.
        resume: Option<usize>,
    },
}

impl Revision {
    /// Parses the text form.
    ///
    /// # Errors
    /// The text is not a revision.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match lines.next() {
            Some("keep") => Ok(Self::Keep),
            Some("revise") => {
                let mut steps = Vec::new();
                for line in lines {
                    if line == "end" {
                        return Ok(Self::Rewrite { steps, resume: None });
                    }
                    // Without the grammar a step's text may begin with `resume`; such a step is recognised by its check.
                    if let Some(number) = line.strip_prefix("resume ").filter(|_| !line.contains(" => ")) {
                        let resume = number.parse().map_err(|_| Error::parse("revision", text, "expected a step number after `resume`"))?;
                        return Ok(Self::Rewrite { steps, resume: Some(resume) });
                    }
                    steps.push(Planned::parse(line)?);
                }
                Err(Error::parse("revision", text, "it must close with `end` or `resume N`"))
            }
            _ => Err(Error::parse("revision", text, "expected `keep` or `revise`")),
        }
    }

    /// Returns the Lark rules for the rule `revision` of this plan; they refer to the rules of [`step_rules`].
    pub fn rules(plan: &Plan) -> String {
        let resumable: Vec<String> = plan
            .steps
            .iter()
            .enumerate()
            .filter(|(index, step)| *index >= plan.cursor && step.status == StepStatus::Pending)
            .map(|(index, _)| format!(" | \"resume {}\"", index + 1))
            .collect();
        format!("revision: \"keep\" | \"revise\\n\" steps (\"end\"{})", resumable.concat())
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keep => write!(f, "keep"),
            Self::Rewrite { steps, resume } => {
                writeln!(f, "revise")?;
                for step in steps {
                    writeln!(f, "{step}")?;
                }
                match resume {
                    Some(number) => write!(f, "resume {number}"),
                    None => write!(f, "end"),
                }
            }
        }
    }
}

/// Returns the Lark rules for the rule `steps`: one line per step, at most [`MAX_STEPS`]; they need the shared rules.
///
/// A step's text never begins with `resume `. The lexer takes the longest match: after `resume 4`, where step 4 is not pending, only a text
/// could follow, and a model that wanted to end the revision would be forced to write a step.
pub fn step_rules() -> String {
    const RESUME: &str = "resume ";
    // A text with this beginning, after which none of the characters in `except` follows, up to ` => `.
    let text = |beginning: &str, except: &str| {
        let within = format!("[^\\n={except}\\x00-\\x1F]");
        format!("{beginning}(?:[^\\n= {except}\\x00-\\x1F]|{within}[^\\n=\\x00-\\x1F]{{0,159}}[^\\n= \\x00-\\x1F])")
    };
    let mut texts = vec![text("[A-Za-qs-z0-9{]", "")];
    texts.extend((1..RESUME.len()).map(|at| text(&RESUME[..at], &RESUME[at..=at])));
    format!("steps: step{{0,{MAX_STEPS}}}\nstep: STEP_TEXT check \"\\n\"\nSTEP_TEXT: /(?:{}) => /", texts.join("|"))
}

/// A plan and its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The version: 1 for the first plan, one more after each revision (0: no plan, as with `react`).
    pub version: u32,
    /// Index of the step that is being executed; the steps before it are immutable.
    pub cursor: usize,
    /// All steps: done, failed and pending ones.
    pub steps: Vec<PlanStep>,
}

impl Plan {
    /// Makes the first plan.
    pub fn new(steps: Vec<Planned>) -> Self {
        Self { version: 1, cursor: 0, steps: steps.into_iter().map(pending).collect() }
    }

    /// Parses the text form: one step per line; a line `end` is ignored.
    ///
    /// # Errors
    /// A line is not a plan step.
    pub fn parse_steps(text: &str) -> Result<Vec<Planned>> {
        text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "end").map(Planned::parse).collect()
    }

    /// Returns the step at the cursor.
    pub fn current(&self) -> Option<&PlanStep> {
        self.steps.get(self.cursor)
    }

    /// Whether the cursor has passed all steps.
    pub fn finished(&self) -> bool {
        self.cursor >= self.steps.len()
    }

    /// Records that an action was carried out under the current step.
    pub fn mark_executed(&mut self, turn: u32) {
        if let Some(step) = self.steps.get_mut(self.cursor) {
            step.executed_at.get_or_insert(turn);
        }
    }

    /// Records a verdict of the current step's milestone; [`Verdict::True`] moves the cursor. Returns whether the cursor moved.
    pub fn record_verdict(&mut self, verdict: Verdict, by: VerdictBy, turn: u32) -> bool {
        let Some(step) = self.steps.get_mut(self.cursor) else { return false };
        step.milestone.verdict = verdict;
        step.milestone.by = Some(by);
        if verdict != Verdict::True {
            return false;
        }
        step.milestone.at = Some(turn);
        step.status = StepStatus::Done;
        self.cursor += 1;
        self.skip_failed();
        true
    }

    /// Applies a revision. The steps before the cursor stay byte for byte. The current step stays as a failed one if an action was carried
    /// out under it and it is not resumed. The other steps are rewritten.
    ///
    /// # Errors
    /// The revision has too many steps, or resumes at a step that was executed or does not exist.
    pub fn revise(&mut self, revision: Revision) -> Result<()> {
        let Revision::Rewrite { steps, resume } = revision else { return Ok(()) };
        if steps.len() > MAX_STEPS {
            return Err(Error::Revision(format!("it has {} steps; at most {MAX_STEPS} are taken", steps.len())));
        }
        let resumed = match resume {
            None => Vec::new(),
            Some(number) => {
                let from = number
                    .checked_sub(1)
                    .filter(|from| *from < self.steps.len())
                    .ok_or_else(|| Error::Revision(format!("it resumes at step {number}, but the plan has {}", self.steps.len())))?;
                if from < self.cursor {
                    return Err(Error::Revision(format!(
                        "it resumes at step {number}, which was executed; the executed prefix is immutable"
                    )));
                }
                self.steps[from..].to_vec()
            }
        };
        let keep_current = resume.is_some_and(|number| number == self.cursor + 1);
        let mut kept = self.steps[..self.cursor.min(self.steps.len())].to_vec();
        if let Some(current) = self.steps.get(self.cursor).filter(|step| step.executed_at.is_some() && !keep_current) {
            kept.push(PlanStep { status: StepStatus::Failed, ..current.clone() });
        }
        let cursor = kept.len();
        kept.extend(steps.into_iter().map(pending));
        kept.extend(resumed);
        *self = Self { version: self.version + 1, cursor, steps: kept };
        self.skip_failed();
        Ok(())
    }

    fn skip_failed(&mut self) {
        while self.steps.get(self.cursor).is_some_and(|step| step.status != StepStatus::Pending) {
            self.cursor += 1;
        }
    }
}

fn pending(planned: Planned) -> PlanStep {
    let milestone = Milestone::new(planned.text.clone(), planned.check);
    PlanStep { text: planned.text, milestone, status: StepStatus::Pending, executed_at: None }
}
