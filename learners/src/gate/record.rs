//! A gate's decision as the registry keeps it.

use milepost_runtime::registry::{Figure, Occasion, Status};

use super::{Decision, Verdict};

impl Verdict {
    /// What becomes of the generation.
    pub fn status(self) -> Status {
        match self {
            Self::Promote => Status::Promoted,
            Self::Quarantine => Status::Quarantined,
            Self::Inconclusive => Status::Inconclusive,
        }
    }
}

impl Decision {
    /// The figure that goes into the generation's record.
    pub fn figure(&self, occasion: Occasion) -> Figure {
        Figure {
            incumbent: Some(self.incumbent),
            p: Some(self.p),
            decision: Some(self.verdict.status()),
            ..Figure::new(occasion, self.candidate, self.reason.clone())
        }
    }
}
