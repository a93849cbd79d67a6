//! Long tasks at the help desk.

use super::state::{HelpDesk, others_unchanged};
use super::tasks::{WantedTicket, assign_agent, log_in, open_ticket, reopen_first, send_comment, set_priority};
use crate::instance::{Draft, Instance};
use crate::plan_steps::{click_to_text, click_to_url, text_visible, url_contains};
use crate::seeded::{REMARKS, Rng};

/// Makes a task in which each of five tickets gets an agent and a priority.
pub(super) fn triage(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw(rng, 7);
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
    let mut plan = log_in(&desk);
    for (at_index, (number, agent, priority)) in wanted.iter().enumerate() {
        if at_index > 0 {
            plan.push(click_to_url("Tickets", "/tickets"));
        }
        plan.push(open_ticket(*number));
        plan.extend(assign_agent(*number, agent));
        plan.extend(set_priority(*number, priority));
    }
    plan.push(click_to_url("Tickets", "/tickets"));
    let touched: Vec<u32> = wanted.iter().map(|(number, ..)| *number).collect();
    let (password, guard) = (desk.password.clone(), others_unchanged(&desk, &touched));
    let mut draft = Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .stage("logged in", url_contains("/tickets"), |desk| desk.logged_in)
        .guard(guard);
    for (number, agent, priority) in wanted {
        draft = draft
            .change(format!("{number} has its agent"), text_visible(format!("{number} assigned to {agent}")), move |desk| {
                desk.has(number, |ticket| ticket.agent == agent)
            })
            .change(format!("{number} has its priority"), text_visible(format!("{number} set to {priority}")), move |desk| {
                desk.has(number, |ticket| ticket.priority == priority)
            });
    }
    draft.finish()
}

/// Makes a task in which four tickets each get a comment and are closed; some must be reopened first.
pub(super) fn replies(rng: &mut Rng) -> Instance {
    let mut desk = HelpDesk::draw(rng, 8);
    desk.list_shows_status = false;
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
    let mut plan = log_in(&desk);
    let mut rules = Vec::new();
    for (at_index, (number, text)) in wanted.iter().enumerate() {
        if at_index > 0 {
            plan.push(click_to_url("Tickets", "/tickets"));
        }
        plan.push(open_ticket(*number));
        let said = send_comment(*number, text);
        rules.push(reopen_first(*number, &said[0]));
        plan.extend(said);
        plan.push(click_to_text("Close ticket", format!("{number} is now closed")));
    }
    let touched: Vec<u32> = wanted.iter().map(|(number, _)| *number).collect();
    let (password, guard) = (desk.password.clone(), others_unchanged(&desk, &touched));
    let mut draft = Draft::new(desk, "/login", goal, plan).secret("password", &password).guard(guard);
    for rule in rules {
        draft = draft.rule(rule);
    }
    for (number, text) in wanted {
        draft = draft
            .change(format!("{number} has its comment"), text_visible(format!("{number} comment sent")), move |desk| {
                desk.has(number, |ticket| ticket.comments == [text])
            })
            .change(format!("{number} is closed"), text_visible(format!("{number} is now closed")), move |desk| {
                desk.has(number, |ticket| ticket.status == "closed" && ticket.comments == [text])
            });
    }
    draft.finish()
}

/// Makes a task that creates four new tickets.
pub(super) fn create_many(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw_without_login(rng, 6);
    let mut wanted: Vec<WantedTicket> = Vec::new();
    for customer in rng.people(4) {
        let mut next = WantedTicket::draw(rng, customer.clone(), false);
        while wanted.iter().any(|known| known.subject == next.subject) {
            next = WantedTicket::draw(rng, customer.clone(), false);
        }
        wanted.push(next);
    }
    let list: Vec<String> =
        wanted.iter().map(|new| format!("\"{}\" for customer \"{}\" priority \"{}\"", new.subject, new.customer, new.priority)).collect();
    let list = list.join("; ");
    let goal = rng.pick(&[format!("Create these tickets: {list}."), format!("Write four new tickets: {list}.")]);
    let plan = wanted.iter().flat_map(WantedTicket::plan).collect();
    let mut draft = Draft::new(desk, "/tickets", goal, plan).guard(|desk| desk.tickets.len() == 10);
    for new in wanted {
        draft =
            draft.change(format!("{} is created", new.subject), text_visible(format!("Ticket created: {}", new.subject)), move |desk| {
                new.is_in(desk)
            });
    }
    draft.finish()
}
