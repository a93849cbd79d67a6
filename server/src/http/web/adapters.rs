//! The adapters' page: the lineage of the generations, their measurements and success over time, and the buttons to promote and roll back.

use axum::extract::State;
use axum::response::Response;
use milepost_improve::generations::{self, Row};
use milepost_runtime::registry::{Figure, Record};
use minijinja::{Value, context};

use super::curve::{self, Measurement};
use super::page::{ErrorPage, Viewer, render_page};
use crate::http::state::App;

/// Handles `GET /adapters`.
pub(super) async fn list(State(app): State<App>, viewer: Viewer) -> Result<Response, ErrorPage> {
    let rows = generations::rows(&app.deployment.registry).await?;
    let curve = curve::draw(&measurements(rows.iter().map(|row| &row.record)));
    let serving = app.deployment.engine.generation().id();
    let improvement = Value::from_serialize(app.improvement.status());
    let adapters: Vec<Value> = rows.iter().map(adapter_values).collect();
    let values = context! { adapters, serving, canary => app.deployment.canary(), improvement, curve => Value::from_safe_string(curve) };
    render_page("adapters.html", &viewer, values)
}

/// Returns the template's values for a generation.
fn adapter_values(row: &Row) -> Value {
    let record = &row.record;
    let figures: Vec<Value> = record.figures.iter().map(figure_values).collect();
    context! {
        id => record.id, parent => record.generation.parent, status => record.status.word(), serving => row.serving,
        created_at => record.created_at, recipe => record.recipe, figures, history => record.history,
    }
}

/// Returns the template's values for a measurement of a generation.
fn figure_values(figure: &Figure) -> Value {
    let share = |[solved, of]: [u64; 2]| format!("{solved} of {of}");
    context! {
        occasion => figure.occasion, at => figure.at, candidate => share(figure.candidate), incumbent => figure.incumbent.map(share),
        p => figure.p.map(|p| format!("{p:.3}")), decision => figure.decision.map(|status| status.word()), reason => figure.reason,
    }
}

/// Returns all measurements of all generations, oldest first.
fn measurements<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<Measurement> {
    let of_record = |record: &'a Record| {
        let promoted = record.history.iter().any(|change| change.status == milepost_runtime::registry::Status::Promoted);
        record.figures.iter().filter(|figure| figure.candidate[1] > 0).map(move |figure| Measurement {
            generation: record.id.clone(),
            at: figure.at,
            candidate: figure.candidate,
            incumbent: figure.incumbent,
            promoted,
        })
    };
    let mut all: Vec<Measurement> = records.flat_map(of_record).collect();
    all.sort_by_key(|measurement| measurement.at);
    all
}
