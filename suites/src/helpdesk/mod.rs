//! The help desk: login, ticket list with filters, tickets that are assigned, answered, closed and created.

mod pages;
mod tasks;
mod tasks_long;

use crate::page::Style;
use crate::seeded::{DEVICES, FAULTS, FIRST, Rng, TOPICS};
use crate::template::{Level, SiteKind, Template};

/// Tasks that play at the help desk.
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

/// Tickets on one page of the list.
const PAGE: usize = 8;
/// Priorities.
pub(crate) const PRIORITIES: [&str; 3] = ["low", "normal", "high"];
/// Where a ticket can stand.
pub(crate) const STATUSES: [&str; 3] = ["open", "waiting", "closed"];
/// A ticket without an agent.
const NOBODY: &str = "nobody";

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) number: u32,
    pub(crate) subject: String,
    pub(crate) customer: String,
    pub(crate) phone: String,
    pub(crate) topic: String,
    pub(crate) status: String,
    pub(crate) priority: String,
    pub(crate) agent: String,
    pub(crate) comments: Vec<String>,
}

/// The help desk's state.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) style: Style,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) agents: Vec<String>,
    pub(crate) user: String,
    pub(crate) password: String,
    /// Value of the cookie that a login sets.
    pub(crate) token: String,
    /// Whether the pages can be seen without a login.
    pub(crate) open: bool,
    pub(crate) logged_in: bool,
    /// Whether the list of tickets tells their status.
    pub(crate) lists_status: bool,
    /// Numbers of the tickets that were opened.
    pub(crate) opened: Vec<u32>,
    /// Who is on call (`/api/on-call/…`).
    pub(crate) on_call: String,
    pub(crate) asked: bool,
    /// The next ticket's number.
    pub(crate) next: u32,
    pub(crate) message: String,
    /// Order of fields and forms.
    pub(crate) turned: bool,
}

impl Desk {
    /// A desk with so many tickets, all open or waiting, with no agent and priority normal.
    pub(crate) fn draw(rng: &mut Rng, tickets: usize) -> Self {
        let numbers = rng.numbers(1000, 8999, tickets);
        let customers = rng.people(tickets);
        let mut agents = rng.sample(&FIRST, 5);
        agents.sort_unstable();
        let tickets = numbers
            .iter()
            .zip(customers)
            .map(|(&number, customer)| Ticket {
                number,
                subject: subject(rng),
                customer,
                phone: rng.digits(),
                topic: rng.pick(&TOPICS).into(),
                status: rng.pick(&["open", "open", "waiting"]).into(),
                priority: "normal".into(),
                agent: NOBODY.into(),
                comments: Vec::new(),
            })
            .collect();
        let user = rng.pick(&FIRST).to_lowercase();
        Self {
            style: Style::draw(rng, "Desk"),
            tickets,
            on_call: rng.pick(&agents).into(),
            agents: agents.into_iter().map(str::to_owned).collect(),
            user,
            password: format!("pass-{}", rng.digits()),
            token: format!("{:016x}", rng.draw()),
            open: false,
            logged_in: false,
            lists_status: true,
            opened: Vec::new(),
            asked: false,
            next: rng.between(9000, 9900),
            message: String::new(),
            turned: rng.chance(50),
        }
    }

    /// The same without a login.
    pub(crate) fn draw_open(rng: &mut Rng, tickets: usize) -> Self {
        Self { open: true, ..Self::draw(rng, tickets) }
    }

    /// The ticket with this number.
    pub(crate) fn ticket(&self, number: u32) -> Option<&Ticket> {
        self.tickets.iter().find(|ticket| ticket.number == number)
    }

    /// Whether a ticket meets a condition.
    pub(crate) fn has(&self, number: u32, holds: impl Fn(&Ticket) -> bool) -> bool {
        self.ticket(number).is_some_and(holds)
    }
}

/// A guard: all tickets but these are as they were.
pub(crate) fn others_untouched(desk: &Desk, but: &[u32]) -> impl Fn(&Desk) -> bool + Send + Sync + use<> {
    let kept: Vec<Ticket> = desk.tickets.iter().filter(|ticket| !but.contains(&ticket.number)).cloned().collect();
    let count = desk.tickets.len();
    move |desk| desk.tickets.len() == count && kept.iter().all(|ticket| desk.tickets.contains(ticket))
}

/// A subject, as `Printer broken`.
pub(crate) fn subject(rng: &mut Rng) -> String {
    format!("{} {}", rng.pick(&DEVICES), rng.pick(&FAULTS))
}
