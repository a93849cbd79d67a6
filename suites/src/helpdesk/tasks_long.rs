//! Long tasks at the help desk.

use super::tasks::{Wanted, hand_over, login, open, rank, reopen_first, reply};
use super::{Desk, others_untouched};
use crate::instance::{Draft, Instance};
use crate::plan_steps::{at, leads, seen, shows};
use crate::seeded::{REMARKS, Rng};

/// Five tickets, each with an agent and a priority.
pub(super) fn triage(rng: &mut Rng) -> Instance {
    let desk = Desk::draw(rng, 7);
    let numbers: Vec<u32> = desk.tickets.iter().map(|ticket| ticket.number).collect();
    let wanted: Vec<(u32, String, &str)> =
        rng.sample(&numbers, 5).into_iter().map(|number| (number, rng.pick(&desk.agents), rng.pick(&["low", "high"]))).collect();
    let list: Vec<String> =
        wanted.iter().map(|(number, agent, priority)| format!("\"{number}\" agent \"{agent}\" priority \"{priority}\"")).collect();
    let (list, user) = (list.join("; "), desk.user.clone());
    let goal = rng.pick(&[
        format!("Log in as \"{user}\" and set agent and priority of these tickets: {list}."),
        format!("Sort the tickets as user \"{user}\": {list}."),
    ]);
    let mut plan = login(&desk);
    for (at_index, (number, agent, priority)) in wanted.iter().enumerate() {
        if at_index > 0 {
            plan.push(leads("Tickets", "/tickets"));
        }
        plan.push(open(*number));
        plan.extend(hand_over(*number, agent));
        plan.extend(rank(*number, priority));
    }
    plan.push(leads("Tickets", "/tickets"));
    let touched: Vec<u32> = wanted.iter().map(|(number, ..)| *number).collect();
    let (password, guard) = (desk.password.clone(), others_untouched(&desk, &touched));
    let mut draft = Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .stage("logged in", at("/tickets"), |desk| desk.logged_in)
        .guard(guard);
    for (number, agent, priority) in wanted {
        draft = draft
            .fact(format!("{number} has its agent"), seen(format!("{number} assigned to {agent}")), move |desk| {
                desk.has(number, |ticket| ticket.agent == agent)
            })
            .fact(format!("{number} has its priority"), seen(format!("{number} set to {priority}")), move |desk| {
                desk.has(number, |ticket| ticket.priority == priority)
            });
    }
    draft.finish()
}

/// Four tickets, each answered and closed; some must be reopened first.
pub(super) fn replies(rng: &mut Rng) -> Instance {
    let mut desk = Desk::draw(rng, 8);
    desk.lists_status = false;
    let numbers: Vec<u32> = desk.tickets.iter().map(|ticket| ticket.number).collect();
    let wanted: Vec<(u32, &str)> = rng.sample(&numbers, 4).into_iter().zip(rng.sample(&REMARKS, 4)).collect();
    let closed = rng.between(1, 2) as usize;
    for (number, _) in rng.sample(&wanted, closed) {
        desk.tickets.iter_mut().filter(|ticket| ticket.number == number).for_each(|ticket| ticket.status = "closed".into());
    }
    let list: Vec<String> = wanted.iter().map(|(number, text)| format!("\"{number}\" comment \"{text}\"")).collect();
    let (list, user) = (list.join("; "), desk.user.clone());
    let goal = rng.pick(&[
        format!("Log in as \"{user}\". Send a comment on each of these tickets, then close it: {list}. If one is closed reopen it first."),
        format!("As \"{user}\" comment on and then close these tickets: {list}. Reopen a closed ticket first."),
    ]);
    let mut plan = login(&desk);
    let mut rules = Vec::new();
    for (at_index, (number, text)) in wanted.iter().enumerate() {
        if at_index > 0 {
            plan.push(leads("Tickets", "/tickets"));
        }
        plan.push(open(*number));
        let said = reply(*number, text);
        rules.push(reopen_first(*number, &said[0]));
        plan.extend(said);
        plan.push(shows("Close ticket", format!("{number} is now closed")));
    }
    let touched: Vec<u32> = wanted.iter().map(|(number, _)| *number).collect();
    let (password, guard) = (desk.password.clone(), others_untouched(&desk, &touched));
    let mut draft = Draft::new(desk, "/login", goal, plan).secret("password", &password).guard(guard);
    for rule in rules {
        draft = draft.rule(rule);
    }
    for (number, text) in wanted {
        draft = draft
            .fact(format!("{number} has its comment"), seen(format!("{number} comment sent")), move |desk| {
                desk.has(number, |ticket| ticket.comments == [text])
            })
            .fact(format!("{number} is closed"), seen(format!("{number} is now closed")), move |desk| {
                desk.has(number, |ticket| ticket.status == "closed" && ticket.comments == [text])
            });
    }
    draft.finish()
}

/// Four new tickets.
pub(super) fn create_many(rng: &mut Rng) -> Instance {
    let desk = Desk::draw_open(rng, 6);
    let mut wanted: Vec<Wanted> = Vec::new();
    for customer in rng.people(4) {
        let mut next = Wanted::draw(rng, customer.clone(), false);
        while wanted.iter().any(|known| known.subject == next.subject) {
            next = Wanted::draw(rng, customer.clone(), false);
        }
        wanted.push(next);
    }
    let list: Vec<String> =
        wanted.iter().map(|new| format!("\"{}\" for customer \"{}\" priority \"{}\"", new.subject, new.customer, new.priority)).collect();
    let list = list.join("; ");
    let goal = rng.pick(&[format!("Create these tickets: {list}."), format!("Write four new tickets: {list}.")]);
    let plan = wanted.iter().flat_map(Wanted::plan).collect();
    let mut draft = Draft::new(desk, "/tickets", goal, plan).guard(|desk| desk.tickets.len() == 10);
    for new in wanted {
        draft =
            draft.fact(format!("{} is created", new.subject), seen(format!("Ticket created: {}", new.subject)), move |desk| new.made(desk));
    }
    draft.finish()
}
