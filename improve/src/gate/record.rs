//! Converts a gate's decision into the registry's terms.

use milepost_runtime::registry::{Figure, Occasion, Status};

use super::{Decision, Verdict};

impl Verdict {
    /// Returns the generation's status in the registry after this verdict.
    pub fn status(self) -> Status {
        match self {
            Self::Promote => Status::Promoted,
            Self::Quarantine => Status::Quarantined,
            Self::Inconclusive => Status::Inconclusive,
        }
    }
}

impl Decision {
    /// Builds the figure that is added to the generation's record.
    pub fn figure(&self, occasion: Occasion) -> Figure {
        Figure {
            incumbent: Some(self.incumbent),
            p: Some(self.p),
            decision: Some(self.verdict.status()),
            ..Figure::new(occasion, self.candidate, self.reason.clone())
        }
    }
}
