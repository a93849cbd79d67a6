//! Easy and medium tasks at the help desk.

use milepost_runtime::Planned;

use super::{Desk, PAGE, PRIORITIES, others_untouched, subject};
use crate::instance::{Draft, Instance};
use crate::oracle::{At, Resume, Rule};
use crate::plan_steps::{at, fetches, leads, opens, seen, selects, selects_result, shows, signs_in, types};
use crate::seeded::{REMARKS, Rng, TEAMS, TOPICS};

/// Logging in from the login page.
pub(super) fn login(desk: &Desk) -> Vec<Planned> {
    vec![types("User", &desk.user), signs_in("Password", "password", "Log in", "/tickets")]
}

/// Opening a ticket from the list.
pub(super) fn open(number: u32) -> Planned {
    leads(&number.to_string(), format!("/ticket/{number}"))
}

/// Choosing an agent and assigning.
pub(super) fn hand_over(number: u32, agent: &str) -> Vec<Planned> {
    vec![selects("Agent", agent), shows("Assign", format!("{number} assigned to {agent}"))]
}

/// Choosing a priority and setting it.
pub(super) fn rank(number: u32, priority: &str) -> Vec<Planned> {
    vec![selects("Priority", priority), shows("Set priority", format!("{number} set to {priority}"))]
}

/// Writing a comment and sending it.
pub(super) fn reply(number: u32, text: &str) -> Vec<Planned> {
    vec![types("Comment", text), shows("Send", format!("{number} comment sent"))]
}

/// Reopening a closed ticket before the comment is written.
pub(super) fn reopen_first(number: u32, comment: &Planned) -> Rule {
    let steps = vec![shows("Reopen", format!("{number} is open again"))];
    Rule { at: At::Step(comment.text.clone()), when: seen("This ticket is closed"), steps, resume: Resume::Current }
}

fn any_number(rng: &mut Rng, desk: &Desk) -> u32 {
    desk.tickets[rng.below(desk.tickets.len().min(PAGE))].number
}

pub(super) fn sender(rng: &mut Rng) -> Instance {
    let desk = Desk::draw(rng, 7);
    let number = any_number(rng, &desk);
    let what = rng.below(3);
    let value = desk.ticket(number).map(|ticket| [&ticket.customer, &ticket.phone, &ticket.topic][what].clone()).unwrap_or_default();
    let (fact, user) = (["Customer", "Phone", "Topic"][what], desk.user.clone());
    let goal = rng.pick(&[
        format!("Log in as \"{user}\", open ticket \"{number}\" and report its \"{fact}\"."),
        format!("Sign in with user \"{user}\". What is the \"{fact}\" of ticket \"{number}\"?"),
    ]);
    let mut plan = login(&desk);
    plan.push(open(number));
    let password = desk.password.clone();
    Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .stage("logged in", at("/tickets"), |desk| desk.logged_in)
        .stage("the ticket is open", at(format!("/ticket/{number}")), move |desk| desk.opened.contains(&number))
        .reads([vec![format!("Ticket {number}"), format!("{fact} {value}")]])
        .answer(value)
        .finish()
}

pub(super) fn close(rng: &mut Rng) -> Instance {
    let desk = Desk::draw_open(rng, 10);
    let number = any_number(rng, &desk);
    let goal = rng.pick(&[
        format!("Close ticket \"{number}\"."),
        format!("Ticket \"{number}\" is solved, close it."),
        format!("Open \"{number}\" and close the ticket."),
    ]);
    let guard = others_untouched(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, vec![open(number), shows("Close ticket", format!("{number} is now closed"))])
        .fact("the ticket is closed", seen(format!("{number} is now closed")), move |desk| {
            desk.has(number, |ticket| ticket.status == "closed")
        })
        .guard(guard)
        .finish()
}

pub(super) fn comment(rng: &mut Rng) -> Instance {
    let desk = Desk::draw_open(rng, 12);
    let direct = rng.chance(50);
    let (number, text) = (any_number(rng, &desk), rng.pick(&REMARKS));
    let (goal, first) = match direct {
        true => (format!("Go to \"/ticket/{number}\" and send the comment \"{text}\"."), opens(&format!("/ticket/{number}"))),
        false => (format!("Send the comment \"{text}\" on ticket \"{number}\"."), open(number)),
    };
    let mut plan = vec![first];
    plan.extend(reply(number, text));
    let guard = others_untouched(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, plan)
        .fact("the comment is sent", seen(format!("{number} comment sent")), move |desk| {
            desk.has(number, |ticket| ticket.comments == [text])
        })
        .guard(guard)
        .finish()
}

pub(super) fn assign(rng: &mut Rng) -> Instance {
    let desk = Desk::draw(rng, 9);
    let (number, agent, user) = (any_number(rng, &desk), rng.pick(&desk.agents), desk.user.clone());
    let priority = rng.pick(&["low", "high"]);
    let goal = rng.pick(&[
        format!("Log in as \"{user}\". Assign ticket \"{number}\" to \"{agent}\" and set its priority to \"{priority}\"."),
        format!("As user \"{user}\" give ticket \"{number}\" to the agent \"{agent}\", then set the priority \"{priority}\"."),
    ]);
    let mut plan = login(&desk);
    plan.push(open(number));
    plan.extend(hand_over(number, &agent));
    plan.extend(rank(number, priority));
    let (password, guard) = (desk.password.clone(), others_untouched(&desk, &[number]));
    Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .stage("logged in", at("/tickets"), |desk| desk.logged_in)
        .fact("assigned", seen(format!("{number} assigned to {agent}")), move |desk| desk.has(number, |ticket| ticket.agent == agent))
        .fact("priority set", seen(format!("{number} set to {priority}")), move |desk| {
            desk.has(number, |ticket| ticket.priority == priority)
        })
        .guard(guard)
        .finish()
}

pub(super) fn reopen(rng: &mut Rng) -> Instance {
    let mut desk = Desk::draw(rng, 8);
    let at_index = rng.below(desk.tickets.len());
    if rng.chance(80) {
        desk.tickets[at_index].status = "closed".into();
    }
    let (number, text, agent, user) = (desk.tickets[at_index].number, rng.pick(&REMARKS), rng.pick(&desk.agents), desk.user.clone());
    // The list must not tell what the ticket's own page tells.
    desk.lists_status = false;
    let goal = rng.pick(&[
        format!("Log in as \"{user}\". On ticket \"{number}\" send the comment \"{text}\" and assign it to \"{agent}\". If it is closed reopen it first."),
        format!("As \"{user}\" comment \"{text}\" on ticket \"{number}\", then assign it to \"{agent}\". Reopen a closed ticket first."),
    ]);
    let mut plan = login(&desk);
    plan.push(open(number));
    let said = reply(number, text);
    let rule = reopen_first(number, &said[0]);
    plan.extend(said);
    plan.extend(hand_over(number, &agent));
    let (password, guard) = (desk.password.clone(), others_untouched(&desk, &[number]));
    Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .rule(rule)
        .fact("the comment is sent", seen(format!("{number} comment sent")), move |desk| {
            desk.has(number, |ticket| ticket.comments == [text])
        })
        .fact("assigned", seen(format!("{number} assigned to {agent}")), move |desk| {
            desk.has(number, |ticket| ticket.agent == agent && ticket.status != "closed")
        })
        .guard(guard)
        .finish()
}

/// What a new ticket is to hold.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) subject: String,
    pub(super) customer: String,
    pub(super) priority: &'static str,
    pub(super) topic: Option<&'static str>,
}

impl Wanted {
    pub(super) fn draw(rng: &mut Rng, customer: String, with_topic: bool) -> Self {
        Self { subject: subject(rng), customer, priority: rng.pick(&PRIORITIES), topic: with_topic.then(|| rng.pick(&TOPICS)) }
    }

    pub(super) fn plan(&self) -> Vec<Planned> {
        let mut plan = vec![
            leads("New ticket", "/new"),
            types("Subject", &self.subject),
            types("Customer", &self.customer),
            selects("Priority", self.priority),
        ];
        plan.extend(self.topic.map(|topic| selects("Topic", topic)));
        plan.push(shows("Create", format!("Ticket created: {}", self.subject)));
        plan
    }

    pub(super) fn made(&self, desk: &Desk) -> bool {
        desk.tickets.iter().any(|ticket| {
            ticket.subject == self.subject
                && ticket.customer == self.customer
                && ticket.priority == self.priority
                && self.topic.is_none_or(|topic| ticket.topic == topic)
        })
    }
}

pub(super) fn create(rng: &mut Rng) -> Instance {
    let desk = Desk::draw_open(rng, 6);
    let customer = rng.people(1).concat();
    let wanted = Wanted::draw(rng, customer, true);
    let (about, customer, priority, topic) = (&wanted.subject, &wanted.customer, wanted.priority, wanted.topic.unwrap_or_default());
    let goal = rng.pick(&[
        format!("Create a ticket \"{about}\" for customer \"{customer}\", priority \"{priority}\", topic \"{topic}\". Report its number."),
        format!("Write a new ticket with subject \"{about}\", customer \"{customer}\", topic \"{topic}\" and priority \"{priority}\". Which number does it get?"),
    ]);
    let (plan, text, number) = (wanted.plan(), format!("Ticket created: {about}"), desk.next.to_string());
    let guard = |desk: &Desk| desk.tickets.len() == 7;
    let ways = [vec![format!("Ticket {number}")], vec![format!("{number} {about}")]];
    Draft::new(desk, "/tickets", goal, plan)
        .fact("the ticket is created", seen(text), move |desk| wanted.made(desk))
        .guard(guard)
        .reads(ways)
        .answer(number)
        .finish()
}

pub(super) fn on_call(rng: &mut Rng) -> Instance {
    let desk = Desk::draw_open(rng, 9);
    let (number, text, team) = (any_number(rng, &desk), rng.pick(&REMARKS), rng.pick(&TEAMS));
    let (agent, path) = (desk.on_call.clone(), format!("/api/on-call/{team}"));
    let goal = rng.pick(&[
        format!("Open ticket \"{number}\", fetch \"{path}\" and assign the ticket to that agent. Then send the comment \"{text}\"."),
        format!("Assign ticket \"{number}\" to the agent whom \"{path}\" names, and send the comment \"{text}\"."),
    ]);
    let mut plan =
        vec![open(number), fetches(&path, "on_call"), selects_result("Agent", "nobody"), shows("Assign", format!("{number} assigned to"))];
    plan.extend(reply(number, text));
    let guard = others_untouched(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, plan)
        .reads([vec![format!("on_call {agent}")]])
        .stage("the agent is known", seen("on_call"), |desk| desk.asked)
        .fact("assigned", seen(format!("{number} assigned to {agent}")), move |desk| desk.has(number, |ticket| ticket.agent == agent))
        .fact("the comment is sent", seen(format!("{number} comment sent")), move |desk| {
            desk.has(number, |ticket| ticket.comments == [text])
        })
        .guard(guard)
        .finish()
}

pub(super) fn filter(rng: &mut Rng) -> Instance {
    let mut desk = Desk::draw_open(rng, 20);
    let status = rng.pick(&["open", "waiting"]);
    for (at_index, ticket) in desk.tickets.iter_mut().enumerate() {
        // Twelve of twenty have the status: two pages.
        ticket.status = if at_index % 5 < 3 { status } else { "closed" }.into();
    }
    let fitting: Vec<u32> = desk.tickets.iter().filter(|ticket| ticket.status == status).map(|ticket| ticket.number).collect();
    let number = fitting[PAGE + rng.below(fitting.len() - PAGE)];
    let priority = rng.pick(&["low", "high"]);
    let goal = rng.pick(&[
        format!("Filter the tickets by status \"{status}\", open \"{number}\" and set its priority to \"{priority}\"."),
        format!("Show the tickets with status \"{status}\". Set the priority of \"{number}\" to \"{priority}\"."),
    ]);
    let mut plan = vec![selects("Status", status), leads("Filter", status), open(number)];
    plan.extend(rank(number, priority));
    let guard = others_untouched(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, plan)
        .stage("the ticket is open", at(format!("/ticket/{number}")), move |desk| desk.opened.contains(&number))
        .fact("priority set", seen(format!("{number} set to {priority}")), move |desk| {
            desk.has(number, |ticket| ticket.priority == priority)
        })
        .guard(guard)
        .finish()
}
