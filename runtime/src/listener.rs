//! The events of a running episode, and their listener.

use crate::episode::{Episode, Step};
use crate::observation::Observation;
use crate::plan::Plan;

/// An event of a running episode.
#[derive(Debug)]
pub enum Event<'a> {
    /// The episode began and has its id.
    Began(&'a Episode),
    /// The first plan was made, or a revised one.
    Plan(&'a Plan),
    /// The milestone of this plan step (index) became true.
    Milestone(&'a Plan, usize),
    /// The page was observed; the decision comes next.
    Observed(&'a Observation),
    /// A step was carried out and recorded.
    Step(&'a Step),
    /// The episode ended.
    Ended(&'a Episode),
}

/// Receives the events of a running episode.
pub trait Listener: Send {
    /// Receives an event.
    fn event(&mut self, event: Event<'_>);
}

/// Ignores all events.
pub struct NoListener;

impl Listener for NoListener {
    fn event(&mut self, _: Event<'_>) {}
}
