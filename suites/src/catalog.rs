//! The templates of the bundled suite.

use std::sync::LazyLock;

use crate::template::Template;
use crate::{helpdesk, records, shop};

/// Returns all templates of the bundled suite, ordered by level, then by site.
pub fn bundled() -> &'static [Template] {
    static ALL: LazyLock<Vec<Template>> = LazyLock::new(|| {
        let mut all: Vec<Template> = [shop::TEMPLATES, helpdesk::TEMPLATES, records::TEMPLATES].into_iter().flatten().copied().collect();
        all.sort_by_key(|template| template.level);
        all
    });
    &ALL
}

/// Returns the template with this id.
pub fn template(id: &str) -> Option<&'static Template> {
    bundled().iter().find(|template| template.id == id)
}
