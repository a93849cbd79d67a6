//! Generations of adapters: lineage, gate figures, success over time, and what an administrator can do about them.

use axum::extract::State as Of;
use axum::response::Response;
use milepost_runtime::registry::{Figure, Record};
use minijinja::{Value, context};

use super::curve::{self, Measured};
use super::page::{Oops, Viewer, show};
use crate::generations::{self, Row};
use crate::serve::App;

pub(super) async fn list(Of(app): Of<App>, viewer: Viewer) -> Result<Response, Oops> {
    let rows = generations::rows(&app.registry).await?;
    let curve = curve::draw(&measured(rows.iter().map(|row| &row.record)));
    let serving = app.mind.engine.generation().id();
    let improvement = Value::from_serialize(app.improvement.status());
    let adapters: Vec<Value> = rows.iter().map(line).collect();
    let values = context! { adapters, serving, canary => app.canary.status(), improvement, curve => Value::from_safe_string(curve) };
    show("adapters.html", &viewer, values)
}

fn line(row: &Row) -> Value {
    let record = &row.record;
    let figures: Vec<Value> = record.figures.iter().map(figure).collect();
    context! {
        id => record.id, parent => record.generation.parent, status => record.status.word(), serving => row.serving,
        created_at => record.created_at, recipe => record.recipe, figures, history => record.history,
    }
}

fn figure(figure: &Figure) -> Value {
    let told = |[solved, of]: [u64; 2]| format!("{solved} of {of}");
    context! {
        occasion => figure.occasion, at => figure.at, candidate => told(figure.candidate), incumbent => figure.incumbent.map(told),
        p => figure.p.map(|p| format!("{p:.3}")), decision => figure.decision.map(|status| status.word()), reason => figure.reason,
    }
}

/// All measurements of all generations, oldest first.
fn measured<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<Measured> {
    let of = |record: &'a Record| {
        let promoted = record.history.iter().any(|change| change.status == milepost_runtime::registry::Status::Promoted);
        record.figures.iter().filter(|figure| figure.candidate[1] > 0).map(move |figure| Measured {
            generation: record.id.clone(),
            at: figure.at,
            candidate: figure.candidate,
            incumbent: figure.incumbent,
            promoted,
        })
    };
    let mut all: Vec<Measured> = records.flat_map(of).collect();
    all.sort_by_key(|measured| measured.at);
    all
}
