//! The templates of the pages, which escape every value.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::http::errors::Problem;
use crate::http::rest::screenshot_turn;

/// The template files: name and text.
const FILES: [(&str, &str); 9] = [
    ("base.html", include_str!("templates/base.html")),
    ("macros.html", include_str!("templates/macros.html")),
    ("sign_in.html", include_str!("templates/sign_in.html")),
    ("problem.html", include_str!("templates/problem.html")),
    ("tasks.html", include_str!("templates/tasks.html")),
    ("new.html", include_str!("templates/new.html")),
    ("task.html", include_str!("templates/task.html")),
    ("replay.html", include_str!("templates/replay.html")),
    ("adapters.html", include_str!("templates/adapters.html")),
];

/// The templates with their filters: `when` formats a time, `words` replaces the underscores of a name by spaces, and `shot` gives the turn
/// of a screenshot's file.
static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    templates.add_filter("when", when);
    templates.add_filter("words", |word: &str| word.replace('_', " "));
    templates.add_filter("shot", |file: &str| screenshot_turn(file).map_or(Value::from(()), Value::from));
    for (name, text) in FILES {
        if let Err(error) = templates.add_template(name, text) {
            tracing::error!(name, %error, "this template cannot be read");
        }
    }
    templates
});

/// Renders a template.
///
/// # Errors
/// 500: the template and its values do not fit together.
pub(super) fn render(name: &str, values: Value) -> Result<String, Problem> {
    let rendered = TEMPLATES.get_template(name).and_then(|template| template.render(values));
    rendered.map_err(|error| Problem::internal(&format!("template {name}: {error:#}")))
}

/// Formats a time for people; returns any other text as it is.
fn when(value: &str) -> String {
    value.parse::<DateTime<Utc>>().map_or_else(|_| value.to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
