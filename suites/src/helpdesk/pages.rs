//! The help desk's pages, and the handlers of its forms.

use axum::Json;
use axum::Router;
use axum::extract::{Form, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use super::state::{HelpDesk, NOBODY, PAGE_SIZE, PRIORITIES, STATUSES, Ticket};
use crate::page::{choice, esc, field, link, password};
use crate::seeded::TOPICS;
use crate::site::{Shared, Site, lock};

type SharedHelpDesk = State<Shared<HelpDesk>>;

impl Site for HelpDesk {
    fn router(shared: Shared<Self>) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::to("/tickets") }))
            .route("/info", get(info))
            .route("/tickets", get(tickets))
            .route("/ticket/{number}", get(ticket))
            .route("/ticket/{number}/assign", post(assign))
            .route("/ticket/{number}/priority", post(priority))
            .route("/ticket/{number}/comment", post(comment))
            .route("/ticket/{number}/close", post(close))
            .route("/ticket/{number}/reopen", post(reopen))
            .route("/new", get(new).post(create))
            .route_layer(from_fn_with_state(shared.clone(), require_login))
            .route("/login", get(login_page).post(login))
            .route("/api/on-call/{team}", get(on_call))
            .with_state(shared)
    }
}

/// Redirects a request without a valid cookie to the login page.
async fn require_login(State(desk): SharedHelpDesk, request: Request, next: Next) -> Response {
    let allowed = {
        let desk = lock(&desk);
        let cookie = format!("desk={}", desk.token);
        let sent = request.headers().get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        desk.without_login || (desk.logged_in && sent.split(';').any(|part| part.trim() == cookie))
    };
    if allowed { next.run(request).await } else { Redirect::to("/login").into_response() }
}

impl HelpDesk {
    fn page(&mut self, title: &str, body: &str) -> Response {
        let mut links = vec![self.style.nav("/tickets", "Tickets"), self.style.nav("/new", "New ticket")];
        if self.reordered {
            links.reverse();
        }
        if !self.without_login && !self.logged_in {
            links.clear();
        }
        let message = std::mem::take(&mut self.message);
        self.style.page(title, &links, "", &message, body).into_response()
    }

    /// Changes a ticket, and shows the message `{number} {done}` on its page.
    fn change(&mut self, number: u32, done: &str, change: impl FnOnce(&mut Ticket)) -> Redirect {
        if let Some(ticket) = self.tickets.iter_mut().find(|ticket| ticket.number == number) {
            change(ticket);
            self.message = format!("{number} {done}");
        }
        Redirect::to(&format!("/ticket/{number}"))
    }
}

async fn info(State(desk): SharedHelpDesk) -> Response {
    lock(&desk).page("Information", "<p>We answer within a day.</p>")
}

async fn login_page(State(desk): SharedHelpDesk) -> Response {
    let desk = &mut *lock(&desk);
    let body = desk.style.post("/login", &(field("User", "user", "") + &password("Password", "password")), "Log in");
    desk.page("Welcome", &body)
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(State(desk): SharedHelpDesk, Form(form): Form<Login>) -> Response {
    let desk = &mut *lock(&desk);
    if form.user.trim() != desk.user || form.password != desk.password {
        desk.message = "User or password is wrong".into();
        return Redirect::to("/login").into_response();
    }
    desk.logged_in = true;
    let cookie = format!("desk={}; Path=/; HttpOnly", desk.token);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/tickets")).into_response()
}

#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    status: String,
    #[serde(default)]
    priority: String,
    #[serde(default)]
    page: Option<usize>,
}

async fn tickets(State(desk): SharedHelpDesk, Query(filter): Query<Filter>) -> Response {
    let desk = &mut *lock(&desk);
    let fits = |asked: &str, has: &str| asked.is_empty() || asked == "all" || asked == has;
    let found: Vec<&Ticket> =
        desk.tickets.iter().filter(|ticket| fits(&filter.status, &ticket.status) && fits(&filter.priority, &ticket.priority)).collect();
    let pages = found.len().div_ceil(PAGE_SIZE).max(1);
    let page = filter.page.unwrap_or(1).clamp(1, pages);
    let rows: Vec<Vec<String>> = found
        .iter()
        .skip((page - 1) * PAGE_SIZE)
        .take(PAGE_SIZE)
        .map(|ticket| {
            vec![
                link(&format!("/ticket/{}", ticket.number), &ticket.number.to_string()),
                esc(&ticket.subject),
                esc(if desk.list_shows_status { &ticket.status } else { &ticket.topic }),
            ]
        })
        .collect();
    let with_all = |options: &[&'static str]| -> Vec<&'static str> { std::iter::once("all").chain(options.iter().copied()).collect() };
    let controls = choice("Status", "status", &with_all(&STATUSES), &filter.status)
        + &choice("Priority", "priority", &with_all(&PRIORITIES), &filter.priority);
    let style = &desk.style;
    let table = if rows.is_empty() {
        "<p>No tickets.</p>".to_owned()
    } else {
        style.rows(&["Number", "Subject", if desk.list_shows_status { "Status" } else { "Topic" }], &rows)
    };
    let pager = style.pager(page, pages, |page| format!("/tickets?status={}&priority={}&page={page}", filter.status, filter.priority));
    let body = style.get("/tickets", &controls, "Filter") + &table + &pager;
    desk.page("List of tickets", &body)
}

async fn ticket(State(desk): SharedHelpDesk, Path(number): Path<u32>) -> Response {
    let desk = &mut *lock(&desk);
    let Some(ticket) = desk.ticket(number) else {
        return (StatusCode::NOT_FOUND, desk.page("Not found", "<p>There is no such ticket.</p>")).into_response();
    };
    let style = &desk.style;
    let mut facts = vec![
        ("Subject", ticket.subject.clone()),
        ("Customer", ticket.customer.clone()),
        ("Phone", ticket.phone.clone()),
        ("Topic", ticket.topic.clone()),
        ("Status", ticket.status.clone()),
    ];
    let comments: String = ticket.comments.iter().map(|text| format!("<p>Comment: {}</p>", esc(text))).collect();
    let path = |what: &str| format!("/ticket/{number}/{what}");
    let mut forms = match ticket.status == "closed" {
        true => vec!["<p>This ticket is closed</p>".to_owned(), style.post(&path("reopen"), "", "Reopen")],
        false => {
            let agents: Vec<&str> = std::iter::once(NOBODY).chain(desk.agents.iter().map(String::as_str)).collect();
            vec![
                style.post(&path("assign"), &choice("Agent", "agent", &agents, &ticket.agent), "Assign"),
                style.post(&path("priority"), &choice("Priority", "priority", &PRIORITIES, &ticket.priority), "Set priority"),
                style.post(&path("comment"), &field("Comment", "comment", ""), "Send"),
                style.post(&path("close"), "", "Close ticket"),
            ]
        }
    };
    if desk.reordered {
        facts.reverse();
        forms.reverse();
    }
    let body = style.facts(&facts) + &comments + &forms.concat();
    desk.opened.push(number);
    desk.page(&format!("Ticket {number}"), &body)
}

#[derive(Deserialize)]
struct Agent {
    agent: String,
}

async fn assign(State(desk): SharedHelpDesk, Path(number): Path<u32>, Form(form): Form<Agent>) -> Redirect {
    let done = format!("assigned to {}", form.agent);
    lock(&desk).change(number, &done, |ticket| ticket.agent = form.agent)
}

#[derive(Deserialize)]
struct Priority {
    priority: String,
}

async fn priority(State(desk): SharedHelpDesk, Path(number): Path<u32>, Form(form): Form<Priority>) -> Redirect {
    let done = format!("set to {}", form.priority);
    lock(&desk).change(number, &done, |ticket| ticket.priority = form.priority)
}

#[derive(Deserialize)]
struct Comment {
    comment: String,
}

async fn comment(State(desk): SharedHelpDesk, Path(number): Path<u32>, Form(form): Form<Comment>) -> Redirect {
    let text = form.comment.trim().to_owned();
    if text.is_empty() {
        return Redirect::to(&format!("/ticket/{number}"));
    }
    lock(&desk).change(number, "comment sent", |ticket| ticket.comments.push(text))
}

async fn close(State(desk): SharedHelpDesk, Path(number): Path<u32>) -> Redirect {
    lock(&desk).change(number, "is now closed", |ticket| ticket.status = "closed".into())
}

async fn reopen(State(desk): SharedHelpDesk, Path(number): Path<u32>) -> Redirect {
    lock(&desk).change(number, "is open again", |ticket| ticket.status = "open".into())
}

async fn new(State(desk): SharedHelpDesk) -> Response {
    let desk = &mut *lock(&desk);
    let topics: Vec<&str> = std::iter::once("Choose").chain(TOPICS).collect();
    let priorities: Vec<&str> = std::iter::once("Choose").chain(PRIORITIES).collect();
    let mut fields = [
        field("Subject", "subject", ""),
        field("Customer", "customer", ""),
        choice("Priority", "priority", &priorities, "Choose"),
        choice("Topic", "topic", &topics, "Choose"),
    ];
    if desk.reordered {
        fields.rotate_right(1);
    }
    let body = desk.style.post("/new", &fields.concat(), "Create");
    desk.page("Tell us more", &body)
}

#[derive(Deserialize)]
struct NewTicket {
    subject: String,
    customer: String,
    priority: String,
    topic: String,
}

async fn create(State(desk): SharedHelpDesk, Form(form): Form<NewTicket>) -> Redirect {
    let desk = &mut *lock(&desk);
    let (subject, customer) = (form.subject.trim().to_owned(), form.customer.trim().to_owned());
    if subject.is_empty() || customer.is_empty() {
        desk.message = "Please fill in subject and customer".into();
        return Redirect::to("/new");
    }
    let number = desk.next_number;
    desk.next_number += 7;
    desk.message = format!("Ticket created: {subject}");
    desk.tickets.push(Ticket {
        number,
        subject,
        customer,
        phone: "none".into(),
        topic: form.topic,
        status: "open".into(),
        priority: form.priority,
        agent: NOBODY.into(),
        comments: Vec::new(),
    });
    Redirect::to(&format!("/ticket/{number}"))
}

async fn on_call(State(desk): SharedHelpDesk, Path(_team): Path<String>) -> Json<serde_json::Value> {
    let desk = &mut *lock(&desk);
    desk.api_called = true;
    Json(json!({ "on_call": desk.on_call }))
}
