//! The bundled suite: three small multi-page applications on loopback (a shop, a help desk, a records desk), and seeded tasks
//! on them, each with a checker that reads the server's state, reference milestones with their truth, and an oracle.

mod ground_truth;
mod helpdesk;
mod instance;
mod labels;
mod oracle;
mod page;
mod plan_quality;
mod plan_steps;
mod reads;
mod records;
mod seeded;
mod shop;
mod template;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use ground_truth::{GroundTruth, GroundTruthConfig, Reference};
pub use instance::{Instance, ReferenceMilestone, Served};
pub use oracle::Oracle;
pub use template::{Level, SiteKind, Template, bundled, seeds, split_of, template};

use milepost_runtime::Result;

/// Serves one site by hand, with the state of a seed, on this loopback port (0: a free one).
///
/// # Errors
/// The port is taken.
pub async fn serve_site(site: SiteKind, seed: u64, port: u16) -> Result<Served> {
    let id = match site {
        SiteKind::Shop => "shop_order",
        SiteKind::HelpDesk => "desk_assign",
        SiteKind::Records => "records_edit",
    };
    match template(id) {
        Some(template) => template.instantiate(seed).serve_on(port).await,
        None => Err(milepost_runtime::Error::BadInput(format!("there is no template {id:?} to serve"))),
    }
}
