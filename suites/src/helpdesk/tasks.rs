//! Easy and medium tasks at the help desk.

use milepost_runtime::Planned;

use super::state::{HelpDesk, PAGE_SIZE, PRIORITIES, others_unchanged, subject};
use crate::instance::{Draft, Instance};
use crate::oracle::{CursorAt, Resume, RevisionRule};
use crate::plan_steps::{
    click_to_text, click_to_url, fetch_json, open_path, select_option, select_result, text_visible, type_secret_and_click, type_text,
    url_contains,
};
use crate::seeded::{REMARKS, Rng, TEAMS, TOPICS};

/// Plans the steps of a login, from the login page.
pub(super) fn log_in(desk: &HelpDesk) -> Vec<Planned> {
    vec![type_text("User", &desk.user), type_secret_and_click("Password", "password", "Log in", "/tickets")]
}

/// Plans the step that opens a ticket from the list.
pub(super) fn open_ticket(number: u32) -> Planned {
    click_to_url(&number.to_string(), format!("/ticket/{number}"))
}

/// Plans the steps that assign a ticket to an agent.
pub(super) fn assign_agent(number: u32, agent: &str) -> Vec<Planned> {
    vec![select_option("Agent", agent), click_to_text("Assign", format!("{number} assigned to {agent}"))]
}

/// Plans the steps that set a ticket's priority.
pub(super) fn set_priority(number: u32, priority: &str) -> Vec<Planned> {
    vec![select_option("Priority", priority), click_to_text("Set priority", format!("{number} set to {priority}"))]
}

/// Plans the steps that send a comment.
pub(super) fn send_comment(number: u32, text: &str) -> Vec<Planned> {
    vec![type_text("Comment", text), click_to_text("Send", format!("{number} comment sent"))]
}

/// Makes the rule that reopens a closed ticket before the comment is typed.
pub(super) fn reopen_first(number: u32, comment: &Planned) -> RevisionRule {
    let steps = vec![click_to_text("Reopen", format!("{number} is open again"))];
    RevisionRule {
        cursor: CursorAt::Step(comment.text.clone()),
        when: text_visible("This ticket is closed"),
        steps,
        resume: Resume::Current,
    }
}

/// Draws the number of a ticket on the first page of the list.
fn any_number_on_first_page(rng: &mut Rng, desk: &HelpDesk) -> u32 {
    desk.tickets[rng.below(desk.tickets.len().min(PAGE_SIZE))].number
}

pub(super) fn sender(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw(rng, 7);
    let number = any_number_on_first_page(rng, &desk);
    let what = rng.below(3);
    let value = desk.ticket(number).map(|ticket| [&ticket.customer, &ticket.phone, &ticket.topic][what].clone()).unwrap_or_default();
    let (fact, user) = (["Customer", "Phone", "Topic"][what], desk.user.clone());
    let goal = rng.pick(&[
        format!("Log in as \"{user}\", open ticket \"{number}\" and report its \"{fact}\"."),
        format!("Sign in with user \"{user}\". What is the \"{fact}\" of ticket \"{number}\"?"),
    ]);
    let mut plan = log_in(&desk);
    plan.push(open_ticket(number));
    let password = desk.password.clone();
    Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .stage("logged in", url_contains("/tickets"), |desk| desk.logged_in)
        .stage("the ticket is open", url_contains(format!("/ticket/{number}")), move |desk| desk.opened.contains(&number))
        .needs_fact([vec![format!("Ticket {number}"), format!("{fact} {value}")]])
        .answer(value)
        .finish()
}

pub(super) fn close(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw_without_login(rng, 10);
    let number = any_number_on_first_page(rng, &desk);
    let goal = rng.pick(&[
        format!("Close ticket \"{number}\"."),
        format!("Ticket \"{number}\" is solved, close it."),
        format!("Open \"{number}\" and close the ticket."),
    ]);
    let guard = others_unchanged(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, vec![open_ticket(number), click_to_text("Close ticket", format!("{number} is now closed"))])
        .change("the ticket is closed", text_visible(format!("{number} is now closed")), move |desk| {
            desk.has(number, |ticket| ticket.status == "closed")
        })
        .guard(guard)
        .finish()
}

pub(super) fn comment(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw_without_login(rng, 12);
    let direct = rng.chance(50);
    let (number, text) = (any_number_on_first_page(rng, &desk), rng.pick(&REMARKS));
    let (goal, first) = match direct {
        true => (format!("Go to \"/ticket/{number}\" and send the comment \"{text}\"."), open_path(&format!("/ticket/{number}"))),
        false => (format!("Send the comment \"{text}\" on ticket \"{number}\"."), open_ticket(number)),
    };
    let mut plan = vec![first];
    plan.extend(send_comment(number, text));
    let guard = others_unchanged(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, plan)
        .change("the comment is sent", text_visible(format!("{number} comment sent")), move |desk| {
            desk.has(number, |ticket| ticket.comments == [text])
        })
        .guard(guard)
        .finish()
}

pub(super) fn assign(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw(rng, 9);
    let (number, agent, user) = (any_number_on_first_page(rng, &desk), rng.pick(&desk.agents), desk.user.clone());
    let priority = rng.pick(&["low", "high"]);
    let goal = rng.pick(&[
        format!("Log in as \"{user}\". Assign ticket \"{number}\" to \"{agent}\" and set its priority to \"{priority}\"."),
        format!("As user \"{user}\" give ticket \"{number}\" to the agent \"{agent}\", then set the priority \"{priority}\"."),
    ]);
    let mut plan = log_in(&desk);
    plan.push(open_ticket(number));
    plan.extend(assign_agent(number, &agent));
    plan.extend(set_priority(number, priority));
    let (password, guard) = (desk.password.clone(), others_unchanged(&desk, &[number]));
    Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .stage("logged in", url_contains("/tickets"), |desk| desk.logged_in)
        .change("assigned", text_visible(format!("{number} assigned to {agent}")), move |desk| {
            desk.has(number, |ticket| ticket.agent == agent)
        })
        .change("priority set", text_visible(format!("{number} set to {priority}")), move |desk| {
            desk.has(number, |ticket| ticket.priority == priority)
        })
        .guard(guard)
        .finish()
}

pub(super) fn reopen(rng: &mut Rng) -> Instance {
    let mut desk = HelpDesk::draw(rng, 8);
    let at_index = rng.below(desk.tickets.len());
    if rng.chance(80) {
        desk.tickets[at_index].status = "closed".into();
    }
    let (number, text, agent, user) = (desk.tickets[at_index].number, rng.pick(&REMARKS), rng.pick(&desk.agents), desk.user.clone());
    // Only the ticket's own page may show that it is closed.
    desk.list_shows_status = false;
    let goal = rng.pick(&[
        format!("Log in as \"{user}\". On ticket \"{number}\" send the comment \"{text}\" and assign it to \"{agent}\". If it is closed reopen it first."),
        format!("As \"{user}\" comment \"{text}\" on ticket \"{number}\", then assign it to \"{agent}\". Reopen a closed ticket first."),
    ]);
    let mut plan = log_in(&desk);
    plan.push(open_ticket(number));
    let said = send_comment(number, text);
    let rule = reopen_first(number, &said[0]);
    plan.extend(said);
    plan.extend(assign_agent(number, &agent));
    let (password, guard) = (desk.password.clone(), others_unchanged(&desk, &[number]));
    Draft::new(desk, "/login", goal, plan)
        .secret("password", &password)
        .rule(rule)
        .change("the comment is sent", text_visible(format!("{number} comment sent")), move |desk| {
            desk.has(number, |ticket| ticket.comments == [text])
        })
        .change("assigned", text_visible(format!("{number} assigned to {agent}")), move |desk| {
            desk.has(number, |ticket| ticket.agent == agent && ticket.status != "closed")
        })
        .guard(guard)
        .finish()
}

/// The content of a ticket that the task asks for.
#[derive(Clone, Debug)]
pub(super) struct WantedTicket {
    pub(super) subject: String,
    pub(super) customer: String,
    pub(super) priority: &'static str,
    pub(super) topic: Option<&'static str>,
}

impl WantedTicket {
    pub(super) fn draw(rng: &mut Rng, customer: String, with_topic: bool) -> Self {
        Self { subject: subject(rng), customer, priority: rng.pick(&PRIORITIES), topic: with_topic.then(|| rng.pick(&TOPICS)) }
    }

    pub(super) fn plan(&self) -> Vec<Planned> {
        let mut plan = vec![
            click_to_url("New ticket", "/new"),
            type_text("Subject", &self.subject),
            type_text("Customer", &self.customer),
            select_option("Priority", self.priority),
        ];
        plan.extend(self.topic.map(|topic| select_option("Topic", topic)));
        plan.push(click_to_text("Create", format!("Ticket created: {}", self.subject)));
        plan
    }

    pub(super) fn is_in(&self, desk: &HelpDesk) -> bool {
        desk.tickets.iter().any(|ticket| {
            ticket.subject == self.subject
                && ticket.customer == self.customer
                && ticket.priority == self.priority
                && self.topic.is_none_or(|topic| ticket.topic == topic)
        })
    }
}

pub(super) fn create(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw_without_login(rng, 6);
    let customer = rng.people(1).concat();
    let wanted = WantedTicket::draw(rng, customer, true);
    let (about, customer, priority, topic) = (&wanted.subject, &wanted.customer, wanted.priority, wanted.topic.unwrap_or_default());
    let goal = rng.pick(&[
        format!("Create a ticket \"{about}\" for customer \"{customer}\", priority \"{priority}\", topic \"{topic}\". Report its number."),
        format!("Write a new ticket with subject \"{about}\", customer \"{customer}\", topic \"{topic}\" and priority \"{priority}\". Which number does it get?"),
    ]);
    let (plan, text, number) = (wanted.plan(), format!("Ticket created: {about}"), desk.next_number.to_string());
    let guard = |desk: &HelpDesk| desk.tickets.len() == 7;
    let ways = [vec![format!("Ticket {number}")], vec![format!("{number} {about}")]];
    Draft::new(desk, "/tickets", goal, plan)
        .change("the ticket is created", text_visible(text), move |desk| wanted.is_in(desk))
        .guard(guard)
        .needs_fact(ways)
        .answer(number)
        .finish()
}

pub(super) fn on_call(rng: &mut Rng) -> Instance {
    let desk = HelpDesk::draw_without_login(rng, 9);
    let (number, text, team) = (any_number_on_first_page(rng, &desk), rng.pick(&REMARKS), rng.pick(&TEAMS));
    let (agent, path) = (desk.on_call.clone(), format!("/api/on-call/{team}"));
    let goal = rng.pick(&[
        format!("Open ticket \"{number}\", fetch \"{path}\" and assign the ticket to that agent. Then send the comment \"{text}\"."),
        format!("Assign ticket \"{number}\" to the agent whom \"{path}\" names, and send the comment \"{text}\"."),
    ]);
    let mut plan = vec![
        open_ticket(number),
        fetch_json(&path, "on_call"),
        select_result("Agent", "nobody"),
        click_to_text("Assign", format!("{number} assigned to")),
    ];
    plan.extend(send_comment(number, text));
    let guard = others_unchanged(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, plan)
        .needs_fact([vec![format!("on_call {agent}")]])
        .stage("the agent is known", text_visible("on_call"), |desk| desk.api_called)
        .change("assigned", text_visible(format!("{number} assigned to {agent}")), move |desk| {
            desk.has(number, |ticket| ticket.agent == agent)
        })
        .change("the comment is sent", text_visible(format!("{number} comment sent")), move |desk| {
            desk.has(number, |ticket| ticket.comments == [text])
        })
        .guard(guard)
        .finish()
}

pub(super) fn filter(rng: &mut Rng) -> Instance {
    let mut desk = HelpDesk::draw_without_login(rng, 20);
    let status = rng.pick(&["open", "waiting"]);
    for (at_index, ticket) in desk.tickets.iter_mut().enumerate() {
        // Twelve of the twenty tickets have the status, which makes two pages.
        ticket.status = if at_index % 5 < 3 { status } else { "closed" }.into();
    }
    let fitting: Vec<u32> = desk.tickets.iter().filter(|ticket| ticket.status == status).map(|ticket| ticket.number).collect();
    let number = fitting[PAGE_SIZE + rng.below(fitting.len() - PAGE_SIZE)];
    let priority = rng.pick(&["low", "high"]);
    let goal = rng.pick(&[
        format!("Filter the tickets by status \"{status}\", open \"{number}\" and set its priority to \"{priority}\"."),
        format!("Show the tickets with status \"{status}\". Set the priority of \"{number}\" to \"{priority}\"."),
    ]);
    let mut plan = vec![select_option("Status", status), click_to_url("Filter", status), open_ticket(number)];
    plan.extend(set_priority(number, priority));
    let guard = others_unchanged(&desk, &[number]);
    Draft::new(desk, "/tickets", goal, plan)
        .stage("the ticket is open", url_contains(format!("/ticket/{number}")), move |desk| desk.opened.contains(&number))
        .change("priority set", text_visible(format!("{number} set to {priority}")), move |desk| {
            desk.has(number, |ticket| ticket.priority == priority)
        })
        .guard(guard)
        .finish()
}
