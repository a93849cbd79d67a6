//! The state of a help desk.

use crate::page::Style;
use crate::seeded::{DEVICES, FAULTS, FIRST_NAMES, Rng, TOPICS};

/// The number of tickets on one page of the list.
pub(super) const PAGE_SIZE: usize = 8;
/// The priorities that a ticket can have.
pub(crate) const PRIORITIES: [&str; 3] = ["low", "normal", "high"];
/// The statuses that a ticket can have.
pub(crate) const STATUSES: [&str; 3] = ["open", "waiting", "closed"];
/// The agent's name on a ticket that has no agent.
pub(super) const NOBODY: &str = "nobody";

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
pub(crate) struct HelpDesk {
    pub(crate) style: Style,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) agents: Vec<String>,
    pub(crate) user: String,
    pub(crate) password: String,
    /// The value of the cookie that a login sets.
    pub(crate) token: String,
    /// Whether the pages are shown without a login.
    pub(crate) without_login: bool,
    pub(crate) logged_in: bool,
    /// Whether the list of tickets shows their statuses.
    pub(crate) list_shows_status: bool,
    /// The numbers of the tickets whose pages were opened, in order.
    pub(crate) opened: Vec<u32>,
    /// The agent on call, as `/api/on-call/…` returns it.
    pub(crate) on_call: String,
    /// Whether `/api/on-call/…` was called.
    pub(crate) api_called: bool,
    /// The number of the next new ticket.
    pub(crate) next_number: u32,
    /// The message that the next page shows.
    pub(crate) message: String,
    /// Whether fields, facts, forms and links are shown in another order.
    pub(crate) reordered: bool,
}

impl HelpDesk {
    /// Draws a help desk with this many tickets, each open or waiting, without an agent, and with the priority `normal`.
    pub(crate) fn draw(rng: &mut Rng, tickets: usize) -> Self {
        let numbers = rng.numbers(1000, 8999, tickets);
        let customers = rng.people(tickets);
        let mut agents = rng.sample(&FIRST_NAMES, 5);
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
        let user = rng.pick(&FIRST_NAMES).to_lowercase();
        Self {
            style: Style::draw(rng, "Desk"),
            tickets,
            on_call: rng.pick(&agents).into(),
            agents: agents.into_iter().map(str::to_owned).collect(),
            user,
            password: format!("pass-{}", rng.digits()),
            token: format!("{:016x}", rng.draw()),
            without_login: false,
            logged_in: false,
            list_shows_status: true,
            opened: Vec::new(),
            api_called: false,
            next_number: rng.between(9000, 9900),
            message: String::new(),
            reordered: rng.chance(50),
        }
    }

    /// Draws a help desk that needs no login.
    pub(crate) fn draw_without_login(rng: &mut Rng, tickets: usize) -> Self {
        Self { without_login: true, ..Self::draw(rng, tickets) }
    }

    /// Returns the ticket with this number.
    pub(crate) fn ticket(&self, number: u32) -> Option<&Ticket> {
        self.tickets.iter().find(|ticket| ticket.number == number)
    }

    /// Returns whether the ticket exists and meets a condition.
    pub(crate) fn has(&self, number: u32, holds: impl Fn(&Ticket) -> bool) -> bool {
        self.ticket(number).is_some_and(holds)
    }
}

/// Makes a condition that holds as long as all tickets except these are unchanged and none was added.
pub(crate) fn others_unchanged(desk: &HelpDesk, but: &[u32]) -> impl Fn(&HelpDesk) -> bool + Send + Sync + use<> {
    let kept: Vec<Ticket> = desk.tickets.iter().filter(|ticket| !but.contains(&ticket.number)).cloned().collect();
    let count = desk.tickets.len();
    move |desk| desk.tickets.len() == count && kept.iter().all(|ticket| desk.tickets.contains(ticket))
}

/// Draws a subject, such as `Printer broken`.
pub(crate) fn subject(rng: &mut Rng) -> String {
    format!("{} {}", rng.pick(&DEVICES), rng.pick(&FAULTS))
}
