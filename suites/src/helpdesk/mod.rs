//! The help desk: login, ticket list with filters, tickets that are assigned, answered, closed and created.

mod pages;
mod state;
mod tasks;
mod tasks_long;

use crate::template::{Level, SiteKind, Template};

/// Templates of the tasks on the help desk.
pub(crate) const TEMPLATES: &[Template] = &[
    Template::new("desk_sender", SiteKind::HelpDesk, Level::Easy, tasks::sender).answers(),
    Template::new("desk_close", SiteKind::HelpDesk, Level::Easy, tasks::close),
    Template::new("desk_comment", SiteKind::HelpDesk, Level::Easy, tasks::comment),
    Template::new("desk_assign", SiteKind::HelpDesk, Level::Medium, tasks::assign),
    Template::new("desk_reopen", SiteKind::HelpDesk, Level::Medium, tasks::reopen).revises(),
    Template::new("desk_create", SiteKind::HelpDesk, Level::Medium, tasks::create).answers(),
    Template::new("desk_on_call", SiteKind::HelpDesk, Level::Medium, tasks::on_call).fetches(),
    Template::new("desk_filter", SiteKind::HelpDesk, Level::Medium, tasks::filter).revises().held_out(),
    Template::new("desk_triage", SiteKind::HelpDesk, Level::Long, tasks_long::triage),
    Template::new("desk_replies", SiteKind::HelpDesk, Level::Long, tasks_long::replies).revises(),
    Template::new("desk_create_many", SiteKind::HelpDesk, Level::Long, tasks_long::create_many).held_out(),
];
