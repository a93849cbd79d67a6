//! The model policies: one type for all four planners.

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::action::{ActionForms, action_rules, shared_rules};
use milepost_runtime::plan::step_rules;
use milepost_runtime::{
    Action, Answered, Call, Context, Decision, Engine, Error, GenerateRequest, Generated, Grammar, Message, Plan, Planned, Policy, Result,
    Revision, Role, Span,
};

use crate::config::{PlannerKind, PlannersConfig, ReviseMode};
use crate::prompts::Prompts;

/// A policy that calls an engine for each decision.
pub struct ModelPolicy {
    engine: Arc<dyn Engine>,
    prompts: Arc<Prompts>,
    kind: PlannerKind,
    config: PlannersConfig,
}

/// The settings of one call.
struct CallSpec<'a> {
    role: Role,
    grammar: Grammar,
    max_tokens: usize,
    seed: u64,
    /// Renders the messages with at most this number of page lines.
    messages: &'a (dyn Fn(usize) -> Result<Vec<Message>> + Sync),
}

impl ModelPolicy {
    /// Creates a policy with this planner on this engine.
    pub fn new(engine: Arc<dyn Engine>, prompts: Arc<Prompts>, kind: PlannerKind, config: PlannersConfig) -> Self {
        Self { engine, prompts, kind, config }
    }

    /// Calls the engine; if the prompt is too long, it retries with fewer page lines.
    async fn generate(&self, spec: CallSpec<'_>) -> Result<Generated> {
        let mut lines = self.prompts.page_lines();
        loop {
            let request = GenerateRequest {
                role: spec.role,
                messages: (spec.messages)(lines)?,
                grammar: self.config.grammar.then(|| spec.grammar.clone()),
                temperature: self.config.temperature,
                seed: spec.seed,
                max_tokens: spec.max_tokens,
            };
            match self.engine.generate(request).await {
                Err(Error::PromptTooLong { tokens, limit, .. }) if lines > 8 => {
                    lines = lines * 3 / 4;
                    tracing::debug!(tokens, limit, lines, "the prompt is too long; showing less of the page");
                }
                generated => return generated,
            }
        }
    }

    /// Returns the action kinds, tools and forms that the grammar of a turn may contain, besides the elements of the page.
    fn forms<'a>(&self, context: Context<'a>) -> ActionForms<'a> {
        ActionForms {
            kinds: &context.task.capability.action_kinds,
            tools: context.tools,
            answer_text: self.config.answer_by,
            naming: self.config.prompt_profile.naming(),
        }
    }

    /// Makes one call for revision and action.
    async fn joint(&self, context: Context<'_>) -> Result<Decision> {
        let planned = self.kind.plans();
        let revisable = self.kind.may_revise(context.stalled);
        let generated = self
            .generate(CallSpec {
                role: Role::Executor,
                grammar: turn_grammar(self.kind, context, &self.forms(context)),
                max_tokens: if revisable { self.config.plan_tokens } else { self.config.action_tokens },
                seed: context.seed,
                messages: &|lines| self.prompts.turn(context, self.kind, lines),
            })
            .await?;
        let (revision, action) = match planned {
            false => (Revision::Keep, or_malformed(Action::parse(&generated.text), &generated)?),
            true => or_malformed(parse_turn(&generated.text), &generated)?,
        };
        let calls = vec![if planned { with_role_spans(generated) } else { generated.call }];
        Ok(Decision { revision, action, calls })
    }

    /// Makes two calls: the planner revises, then the executor acts on the revised plan.
    async fn separate(&self, context: Context<'_>) -> Result<Decision> {
        let rules = Revision::rules(context.plan);
        let revised = self
            .generate(CallSpec {
                role: Role::Planner,
                grammar: Grammar(format!("start: revision\n{rules}\n{}\n{}", step_rules(), shared_rules())),
                max_tokens: self.config.plan_tokens,
                seed: context.seed,
                messages: &|lines| self.prompts.turn(context, self.kind, lines),
            })
            .await?;
        let revision = or_malformed(Revision::parse(&revised.text), &revised)?;
        // A revision that the plan refuses becomes an error when the agent loop applies it, as with a single call.
        let mut revised_plan = context.plan.clone();
        let plan = match revised_plan.revise(revision.clone()) {
            Ok(_) => &revised_plan,
            Err(_) => context.plan,
        };
        let context = Context { plan, ..context };
        let acted = self
            .generate(CallSpec {
                role: Role::Executor,
                grammar: turn_grammar(PlannerKind::Frozen, context, &self.forms(context)),
                max_tokens: self.config.action_tokens,
                seed: context.seed.wrapping_add(1),
                messages: &|lines| self.prompts.turn(context, self.kind, lines),
            })
            .await?;
        let (_, action) = or_malformed(parse_turn(&acted.text), &acted)?;
        Ok(Decision { revision, action, calls: vec![revised.call, acted.call] })
    }
}

/// Writes the grammar of a turn: the revision (if the planner may revise), then the actions that are possible in this turn.
fn turn_grammar(kind: PlannerKind, context: Context<'_>, forms: &ActionForms<'_>) -> Grammar {
    let actions = action_rules(context.observation, forms);
    let shared = shared_rules();
    Grammar(match (kind.plans(), kind.may_revise(context.stalled)) {
        (false, _) => format!("start: action\n{actions}\n{shared}"),
        (true, false) => format!("start: \"keep\\n\" action\n{actions}\n{shared}"),
        (true, true) => {
            format!("start: revision \"\\n\" action\n{}\n{}\n{actions}\n{shared}", Revision::rules(context.plan), step_rules())
        }
    })
}

/// Turns a parse error into [`Error::Malformed`], keeping the call.
fn or_malformed<T>(parsed: Result<T>, generated: &Generated) -> Result<T> {
    parsed.map_err(|error| match error {
        Error::Parse { .. } => Error::Malformed { reason: error.to_string(), call: Box::new(generated.call.clone()) },
        other => other,
    })
}

/// Parses the text of a turn: the action is the last line, the revision is all lines before it.
fn parse_turn(text: &str) -> Result<(Revision, Action)> {
    let (revision, action) = text
        .trim_end()
        .rsplit_once('\n')
        .ok_or_else(|| Error::parse("turn", text, "expected a revision and, on the next line, an action"))?;
    Ok((Revision::parse(revision)?, Action::parse(action)?))
}

/// Divides the call's tokens into spans by role: those up to the last line are the planner's, the rest are the executor's. Tokens that the
/// policy did not choose stay outside all spans.
fn with_role_spans(generated: Generated) -> Call {
    let mut call = generated.call;
    let tokens = call.spans.iter().map(|span| span.end).max().unwrap_or(call.completion_ids.len());
    if let Some(cut) = generated.text.trim_end().rfind('\n') {
        let planner = generated.ends.iter().take_while(|end| **end <= cut + 1).count().min(tokens);
        call.spans = vec![Span { role: Role::Planner, start: 0, end: planner }, Span { role: Role::Executor, start: planner, end: tokens }];
    }
    call
}

#[async_trait]
impl Policy for ModelPolicy {
    fn name(&self) -> &str {
        self.kind.word()
    }

    async fn plan(&self, context: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)> {
        if !self.kind.plans() {
            return Ok((Vec::new(), Vec::new()));
        }
        let generated = self
            .generate(CallSpec {
                role: Role::Planner,
                grammar: Grammar(format!("start: steps \"end\"\n{}\n{}", step_rules(), shared_rules())),
                max_tokens: self.config.plan_tokens,
                seed: context.seed,
                messages: &|lines| self.prompts.plan(context, lines),
            })
            .await?;
        Ok((or_malformed(Plan::parse_steps(&generated.text), &generated)?, vec![generated.call]))
    }

    async fn turn(&self, context: Context<'_>) -> Result<Decision> {
        match self.config.revise {
            ReviseMode::Separate if self.kind.may_revise(context.stalled) => self.separate(context).await,
            _ => self.joint(context).await,
        }
    }

    async fn answer(&self, context: Context<'_>) -> Result<Answered> {
        let generated = self
            .generate(CallSpec {
                role: Role::Summarizer,
                grammar: Grammar("start: /[^\\x00-\\x1F]{1,200}/".into()),
                max_tokens: self.config.action_tokens,
                seed: context.seed.wrapping_add(2),
                messages: &|lines| self.prompts.answer(context, lines),
            })
            .await?;
        Ok(Answered { text: generated.text.trim().to_owned(), calls: vec![generated.call] })
    }
}
