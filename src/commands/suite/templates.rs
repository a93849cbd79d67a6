//! Selects templates of the bundled suite.

use anyhow::{Result, bail};
use milepost_runtime::Error;
use milepost_suites::{Level, Template, bundled};

use crate::cli::TemplatesArg;

/// Finds the template with this id.
///
/// # Errors
/// There is no such template; the message names the nearest id.
pub fn find(id: &str) -> Result<&'static Template> {
    match bundled().iter().find(|template| template.id == id) {
        Some(template) => Ok(template),
        None => {
            let nearest = bundled().iter().max_by(|a, b| strsim::jaro_winkler(a.id, id).total_cmp(&strsim::jaro_winkler(b.id, id)));
            let hint = nearest.map(|template| format!("; did you mean {}?", template.id)).unwrap_or_default();
            bail!(Error::BadInput(format!("there is no template {id:?}{hint} (`milepost suite list` shows all)")))
        }
    }
}

/// Returns the templates of a level that an argument selects.
pub fn templates(level: Level, which: TemplatesArg) -> Vec<&'static Template> {
    let selected = |template: &&Template| match which {
        TemplatesArg::Trained => !template.held_out,
        TemplatesArg::HeldOut => template.held_out,
        TemplatesArg::All => true,
    };
    bundled().iter().filter(|template| template.level == level).filter(selected).collect()
}
