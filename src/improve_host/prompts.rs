//! Renders prompts and completions for the improvement loop as the configured planner does.

use milepost_improve::host::{Planning, PromptWriter};
use milepost_planners::{PlannerKind, PlannersConfig, Prompts, ReviseMode, turn_completion};
use milepost_runtime::action::Naming;
use milepost_runtime::{Action, Context, Message, Observation, Result, Revision};

use crate::config::Config;

/// The prompts of the configured planner.
pub(super) struct ProgramPrompts {
    prompts: Prompts,
    config: PlannersConfig,
}

impl ProgramPrompts {
    pub(super) fn new(config: &Config) -> Result<Self> {
        Ok(Self { prompts: Prompts::new(&config.policy)?, config: config.policy.clone() })
    }

    /// Returns the planner whose turn prompt is rendered: one that plans, or one that does not.
    fn kind(&self, planning: Planning) -> PlannerKind {
        match planning {
            Planning::Planned => PlannerKind::Adaplan,
            Planning::Unplanned => PlannerKind::React,
        }
    }
}

impl PromptWriter for ProgramPrompts {
    fn naming(&self) -> Naming {
        self.config.prompt_profile.naming()
    }

    fn page_lines(&self) -> usize {
        self.prompts.page_lines()
    }

    fn planning(&self) -> Planning {
        if self.config.planner.plans() { Planning::Planned } else { Planning::Unplanned }
    }

    fn asks_twice(&self) -> bool {
        self.config.revise == ReviseMode::Separate && self.config.planner.may_revise(true)
    }

    fn plan(&self, context: Context<'_>) -> milepost_improve::Result<Vec<Message>> {
        Ok(self.prompts.plan(context, self.prompts.page_lines())?)
    }

    fn turn(&self, context: Context<'_>, planning: Planning) -> milepost_improve::Result<Vec<Message>> {
        Ok(self.prompts.turn(context, self.kind(planning), self.prompts.page_lines())?)
    }

    fn answer(&self, context: Context<'_>) -> milepost_improve::Result<Vec<Message>> {
        Ok(self.prompts.answer(context, self.prompts.page_lines())?)
    }

    fn turn_completion(&self, revision: &Revision, action: &Action, observation: &Observation, planning: Planning) -> String {
        turn_completion(revision, action, observation, planning == Planning::Planned, self.naming())
    }
}
