//! Prompts: templates filled from a context. Their stable parts come first: rules, goal, plan with its cursor, actions, page.

use milepost_runtime::action::{Naming, named_line};
use milepost_runtime::hash::hash16;
use milepost_runtime::{Action, Context, Error, Message, Milestone, Observation, Plan, Result, Revision, StepStatus};
use minijinja::{Environment, context};
use serde::Serialize;

use crate::checklist::Checklist;
use crate::config::{PlannerKind, PlannersConfig};
use crate::templates::{compile, joined_texts, sources};

/// A plan step as a template sees it.
#[derive(Serialize)]
pub(crate) struct StepView<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    pub(crate) mark: &'static str,
}

/// The compiled templates of one profile.
pub struct Prompts {
    templates: Environment<'static>,
    config: PlannersConfig,
    hash: String,
}

impl Prompts {
    /// Compiles the profile's templates, with those of the directory `policy.prompts` in place of the built-in ones.
    ///
    /// # Errors
    /// A template does not compile, the directory or a file in it cannot be read, or a file has the name of no template.
    pub fn new(config: &PlannersConfig) -> Result<Self> {
        let sources = sources(config)?;
        let settings = format!("{} {} {}", config.page_lines, config.plan_window, config.history);
        let hash = hash16((joined_texts(&sources) + &settings).as_bytes());
        Ok(Self { templates: compile(&sources)?, config: config.clone(), hash })
    }

    /// Returns the hash of the templates and of the settings that shape prompts; it is part of a generation's identity.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Renders the messages of the call that writes the first plan.
    pub fn plan(&self, context: Context<'_>, page_lines: usize) -> Result<Vec<Message>> {
        self.render(
            "plan",
            context! { goal => context.task.goal, tools => tool_names(context), page => context.observation.render(page_lines) },
        )
    }

    /// Renders the messages of a turn's call for this planner.
    pub fn turn(&self, context: Context<'_>, kind: PlannerKind, page_lines: usize) -> Result<Vec<Message>> {
        let (plan, planned) = (context.plan, kind.plans());
        let history = if planned { self.config.history } else { self.config.history * 3 };
        let from = context.steps.len().saturating_sub(history);
        let actions: Vec<String> =
            context.steps[from..].iter().map(|step| past_action(&step.action, &step.observation, step.outcome.error.as_deref())).collect();
        self.render(
            "turn",
            context! {
                goal => context.task.goal,
                tools => tool_names(context),
                planned,
                folded => plan.cursor.saturating_sub(1),
                steps => window(plan, self.config.plan_window),
                later => plan.steps.len().saturating_sub(plan.cursor + self.config.plan_window),
                now => plan.current().map(|step| step.text.as_str()),
                stalled => context.stalled,
                checklist => (kind == PlannerKind::Subgoal && context.stalled).then(|| Checklist::of(plan)),
                actions,
                page => context.observation.render(page_lines),
                messages => context.messages,
            },
        )
    }

    /// Renders the messages of the summarizer's call.
    pub fn answer(&self, context: Context<'_>, page_lines: usize) -> Result<Vec<Message>> {
        let actions: Vec<String> =
            context.steps.iter().map(|step| past_action(&step.action, &step.observation, step.outcome.error.as_deref())).collect();
        let results: Vec<&str> = context.steps.iter().filter_map(|step| step.outcome.result.as_deref()).collect();
        self.render("answer", context! { goal => context.task.goal, actions, results, page => context.observation.render(page_lines) })
    }

    /// Renders the messages of a verifier's call.
    pub fn verify(&self, milestone: &Milestone, observation: &Observation) -> Result<Vec<Message>> {
        self.render("verify", context! { milestone => milestone.text, page => observation.render(self.config.page_lines) })
    }

    /// Returns the configured maximum number of page lines in a prompt.
    pub fn page_lines(&self) -> usize {
        self.config.page_lines
    }

    fn render(&self, name: &str, values: minijinja::Value) -> Result<Vec<Message>> {
        messages(&self.templates, name, values)
    }
}

/// Renders a template into messages: the text before its line `---` is the system message, the text after it the user's.
pub(crate) fn messages(templates: &Environment<'_>, name: &str, values: minijinja::Value) -> Result<Vec<Message>> {
    let fail = |error: minijinja::Error| Error::Policy(format!("prompt template {name}: {error:#}"));
    let text = templates.get_template(name).map_err(fail)?.render(values).map_err(fail)?;
    Ok(match text.split_once("\n---\n") {
        Some((system, user)) => vec![Message::system(system.trim()), Message::user(user.trim())],
        None => vec![Message::user(text.trim())],
    })
}

/// Writes the completion of a turn as the model should write it: the revision, then the action on a line of its own; without a plan only
/// the action.
pub fn turn_completion(revision: &Revision, action: &Action, observation: &Observation, planned: bool, naming: Naming) -> String {
    let action = named_line(action, observation, naming);
    match planned {
        true => format!("{revision}\n{action}"),
        false => action,
    }
}

fn tool_names(context: Context<'_>) -> Vec<&str> {
    context.tools.iter().map(|tool| tool.name.as_str()).collect()
}

/// Returns the steps around the cursor: the last executed one, and `ahead` of them from the cursor on.
fn window(plan: &Plan, ahead: usize) -> Vec<StepView<'_>> {
    let from = plan.cursor.saturating_sub(1);
    plan.steps
        .iter()
        .enumerate()
        .skip(from)
        .take(plan.cursor - from + ahead)
        .map(|(index, step)| StepView {
            number: index + 1,
            text: &step.text,
            mark: match step.status {
                StepStatus::Done => "done",
                StepStatus::Failed => "failed",
                StepStatus::Pending if index == plan.cursor => "now",
                StepStatus::Pending => "next",
            },
        })
        .collect()
}

/// Writes a past action in one short line, with the element's role and name in place of its id, and with its error.
pub(crate) fn past_action(action: &Action, observation: &Observation, error: Option<&str>) -> String {
    let line = action.to_string();
    let named = match action.target().and_then(|id| observation.element(id)) {
        Some(element) => {
            line.replacen(&element.id.to_string(), &format!("{} {}", element.role, milepost_runtime::text::quote(&element.name)), 1)
        }
        None => line,
    };
    match error {
        Some(error) => format!("{named} ! {}", error.chars().take(80).collect::<String>()),
        None => named,
    }
}
