//! The state that a run carries from one turn to the next.

use std::sync::Arc;

use super::clock::RunClock;
use crate::plan::Plan;
use crate::progress::ProgressMonitor;

/// The state of a run between two turns.
#[derive(Default)]
pub(super) struct RunState {
    /// The plan in force; version 0 before the first one.
    pub plan: Plan,
    /// Detects that the run makes no progress.
    pub progress: ProgressMonitor,
    /// Whether the last turn was the first stall, so that the planner must revise.
    pub stalled: bool,
    /// The result of the last tool call, which the next observation shows.
    pub tool_result: Option<String>,
    /// Whether the browser was restarted, which happens at most once per run.
    pub restarted: bool,
    /// The messages of people to the agent, oldest first.
    pub messages: Vec<String>,
    /// The run's clock.
    pub clock: Arc<RunClock>,
    /// The time that it took to write the last step, in milliseconds.
    pub record_ms: f64,
}
