//! The prompts of the model judge, and the grammars of its answers.

use milepost_runtime::hash::hash16;
use milepost_runtime::{Action, Episode, Error, Grammar, Message, Plan, Planned, Question, Result, Step, StepStatus};
use minijinja::{Environment, context};

use crate::prompts::{StepView, messages, past_action};
use crate::templates::{TemplateSource, compile, joined_texts};

const TEMPLATES: [(&str, &str); 4] = [
    ("completeness", include_str!("../../prompts/judge/completeness.jinja")),
    ("adherence", include_str!("../../prompts/judge/adherence.jinja")),
    ("end_to_end", include_str!("../../prompts/judge/end_to_end.jinja")),
    ("plan_quality", include_str!("../../prompts/judge/plan_quality.jinja")),
];

/// The compiled templates of the judge; they are not part of the acting model's identity.
pub(super) struct JudgePrompts {
    templates: Environment<'static>,
    /// The hash of all templates.
    pub(super) hash: String,
}

impl JudgePrompts {
    pub(super) fn new() -> Result<Self> {
        let sources = TEMPLATES.map(TemplateSource::built_in);
        Ok(Self { templates: compile(&sources)?, hash: hash16(joined_texts(&sources).as_bytes()) })
    }

    /// Renders the messages of a question, with at most `page_lines` lines of a page.
    ///
    /// Completeness is judged from the actions alone, without answer, plan or pages (RLTR, 2508.19598, section 3.2).
    pub(super) fn messages(&self, episode: &Episode, question: Question, page_lines: usize) -> Result<Vec<Message>> {
        let goal = &episode.task.goal;
        match question {
            Question::Completeness => {
                let tools: Vec<String> = episode.task.capability.tools.clone();
                self.render("completeness", context! { goal, tools, actions => actions(episode) })
            }
            Question::Adherence { step } => self.adherence(episode, step, page_lines),
            Question::EndToEnd => {
                let page = episode.last_observation.as_ref().map(|page| page.render(page_lines)).unwrap_or_default();
                self.render("end_to_end", context! { goal, actions => actions(episode), page, answer => episode.answer })
            }
            Question::PlanQuality => {
                let plan = episode.plan().ok_or_else(|| Error::Judge("the episode has no plan".into()))?;
                let first = episode.steps.first().map(|step| &step.observation).or(episode.last_observation.as_ref());
                let page = first.map(|page| page.render(page_lines)).unwrap_or_default();
                self.render("plan_quality", context! { goal, page, steps => plan_lines(plan) })
            }
        }
    }

    fn adherence(&self, episode: &Episode, step: usize, page_lines: usize) -> Result<Vec<Message>> {
        let taken = episode.steps.get(step).ok_or_else(|| Error::Judge(format!("the episode has no step {step}")))?;
        let plan = episode.plans.iter().find(|plan| plan.version == taken.plan_version);
        let plan = plan.ok_or_else(|| Error::Judge(format!("turn {} has no plan", taken.turn)))?;
        let steps = plan.steps.iter().enumerate().map(|(index, step)| StepView {
            number: index + 1,
            text: &step.text,
            mark: match index.cmp(&taken.cursor) {
                std::cmp::Ordering::Less if step.status == StepStatus::Failed => "failed",
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal => "now",
                std::cmp::Ordering::Greater => "next",
            },
        });
        let before = step.checked_sub(1).map(|before| actions(episode)[before].clone());
        self.render(
            "adherence",
            context! {
                goal => episode.task.goal,
                steps => steps.collect::<Vec<_>>(),
                before,
                page => taken.observation.render(page_lines),
                action => past_action(&taken.action, &taken.observation, None),
            },
        )
    }

    fn render(&self, name: &str, values: minijinja::Value) -> Result<Vec<Message>> {
        messages(&self.templates, name, values)
    }
}

/// Writes the actions, each in one line with the name of its element, and without the text of an answer.
fn actions(episode: &Episode) -> Vec<String> {
    let line = |step: &Step| match &step.action {
        Action::Answer { .. } => "answer".to_owned(),
        action => past_action(action, &step.observation, step.outcome.error.as_deref()),
    };
    episode.steps.iter().map(line).collect()
}

/// Writes the plan as a planner writes it, without the steps that it gave up.
fn plan_lines(plan: &Plan) -> Vec<String> {
    let kept = plan.steps.iter().filter(|step| step.status != StepStatus::Failed);
    kept.map(|step| Planned { text: step.text.clone(), check: step.milestone.check.clone() }.to_string()).collect()
}

/// Returns the grammar of the answer to a question.
pub(super) fn grammar(question: Question) -> Grammar {
    Grammar(match question {
        Question::Completeness => "start: /[01]/".into(),
        Question::Adherence { .. } | Question::EndToEnd => "start: /[012]/".into(),
        Question::PlanQuality => {
            let key = |name: &str| format!("\"\\\"{name}\\\": \" SCORE");
            let keys = ["correctness_score", "followability_score", "standardization_score"].map(key).join(" \", \" ");
            format!("start: \"{{\" {keys} \"}}\"\nSCORE: /[1-5]/")
        }
    })
}
