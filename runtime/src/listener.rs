//! Watching an episode run.

use crate::episode::{Episode, Step};
use crate::observation::Observation;
use crate::plan::Plan;

/// Something worth showing while an episode runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// The episode began and has its id.
    Began(&'a Episode),
    /// The first plan, or a revised one.
    Plan(&'a Plan),
    /// The milestone of this plan step (index) became true.
    Milestone(&'a Plan, usize),
    /// What is seen before deciding.
    Observed(&'a Observation),
    /// A step was carried out and written down.
    Step(&'a Step),
    /// The episode ended.
    Ended(&'a Episode),
}

/// Watches an episode run.
pub trait Listener: Send {
    /// One event.
    fn event(&mut self, event: Event<'_>);
}

/// Watches nothing.
pub struct NoListener;

impl Listener for NoListener {
    fn event(&mut self, _: Event<'_>) {}
}
