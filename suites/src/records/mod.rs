//! The records desk: a table of people with edit forms and bulk actions, and room bookings.

mod pages;
mod state;
mod tasks;
mod tasks_long;

use crate::template::{Level, SiteKind, Template};

/// Templates of the tasks on the records desk.
pub(crate) const TEMPLATES: &[Template] = &[
    Template::new("records_phone", SiteKind::Records, Level::Easy, tasks::phone),
    Template::new("records_lookup", SiteKind::Records, Level::Easy, tasks::lookup).answers(),
    Template::new("records_bulk", SiteKind::Records, Level::Easy, tasks::bulk).held_out(),
    Template::new("records_edit", SiteKind::Records, Level::Medium, tasks::edit).revises(),
    Template::new("records_page", SiteKind::Records, Level::Medium, tasks::page).revises(),
    Template::new("records_badge", SiteKind::Records, Level::Medium, tasks::badge).fetches(),
    Template::new("records_team", SiteKind::Records, Level::Medium, tasks::team),
    Template::new("records_book", SiteKind::Records, Level::Medium, tasks::book).revises().held_out(),
    Template::new("records_edit_many", SiteKind::Records, Level::Long, tasks_long::edit_many),
    Template::new("records_find_many", SiteKind::Records, Level::Long, tasks_long::find_many).revises(),
    Template::new("records_add_many", SiteKind::Records, Level::Long, tasks_long::add_many).answers(),
];
