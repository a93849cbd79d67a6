//! The records desk's pages, and the handlers of its forms.

use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::state::{ACTIONS, Booking, Card, LEVELS, PAGE_SIZE, PERSON_CITIES, Person, ROOMS, Records, saved_message};
use crate::page::{choice, esc, field, link, search};
use crate::seeded::TEAMS;
use crate::site::{Shared, Site, lock};

type SharedRecords = State<Shared<Records>>;

impl Site for Records {
    fn router(shared: Shared<Self>) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::to("/people") }))
            .route("/info", get(info))
            .route("/people", get(people))
            .route("/search", get(results))
            .route("/person/{number}", get(person).post(change))
            .route("/person/{number}/reason", get(reason).post(give_reason))
            .route("/new", get(new).post(add))
            .route("/bulk", post(bulk))
            .route("/rooms", get(rooms))
            .route("/book", get(booking).post(book))
            .route("/api/badge/{name}", get(badge))
            .with_state(shared)
    }
}

impl Records {
    fn page(&mut self, title: &str, query: &str, body: &str) -> Response {
        let style = &self.style;
        let mut links = vec![style.nav("/people", "People"), style.nav("/new", "New person"), style.nav("/rooms", "Rooms")];
        if self.reordered {
            links.reverse();
        }
        let tools = style.get("/search", &search("Search", "q", query), "Search");
        let message = std::mem::take(&mut self.message);
        style.page(title, &links, &tools, &message, body).into_response()
    }

    /// Renders one page of a table of people inside the form of the bulk actions.
    fn table(&self, people: &[&Person], page: usize, href: impl Fn(usize) -> String) -> String {
        let pages = people.len().div_ceil(PAGE_SIZE).max(1);
        let page = page.clamp(1, pages);
        let rows: Vec<Vec<String>> = people
            .iter()
            .skip((page - 1) * PAGE_SIZE)
            .take(PAGE_SIZE)
            .map(|person| {
                let pick =
                    format!("<input type=\"checkbox\" name=\"who\" value=\"{}\" aria-label=\"Pick {}\">", person.number, esc(&person.name));
                vec![pick, link(&format!("/person/{}", person.number), &person.name), esc(&person.card.team)]
            })
            .collect();
        let actions: Vec<&str> = std::iter::once("Choose").chain(ACTIONS).collect();
        let controls = self.style.rows(&["", "Name", "Team"], &rows) + &choice("Action", "action", &actions, "Choose");
        self.style.post("/bulk", &controls, "Apply") + &self.style.pager(page, pages, href)
    }

    fn store(&mut self, number: u32, card: Card) {
        if let Some(person) = self.people.iter_mut().find(|person| person.number == number) {
            self.message = saved_message(&person.name, &person.card, &card);
            person.card = card;
        }
    }
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    q: String,
    #[serde(default)]
    page: Option<usize>,
}

async fn info(State(records): SharedRecords) -> Response {
    lock(&records).page("Information", "", "<p>Ask the front office.</p>")
}

async fn people(State(records): SharedRecords, Query(listing): Query<Listing>) -> Response {
    let records = &mut *lock(&records);
    let all: Vec<&Person> = records.people.iter().collect();
    let body = records.table(&all, listing.page.unwrap_or(1), |page| format!("/people?page={page}"));
    records.page("Everybody", "", &body)
}

async fn results(State(records): SharedRecords, Query(listing): Query<Listing>) -> Response {
    let records = &mut *lock(&records);
    let asked: Vec<String> = listing.q.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let fits = |person: &&Person| {
        let text = format!("{} {}", person.name, person.card.team).to_lowercase();
        text.split(' ').any(|word| asked.iter().any(|asked| asked == word))
    };
    let found: Vec<&Person> = records.people.iter().filter(fits).collect();
    let body = match found.is_empty() {
        true => "<p>Nobody was found.</p>".to_owned(),
        false => records.table(&found, listing.page.unwrap_or(1), |page| format!("/search?q={}&page={page}", listing.q.replace(' ', "+"))),
    };
    records.page("Results", &listing.q, &body)
}

async fn person(State(records): SharedRecords, Path(number): Path<u32>) -> Response {
    let records = &mut *lock(&records);
    let Some(person) = records.person(number) else {
        return (StatusCode::NOT_FOUND, records.page("Not found", "", "<p>There is no such person.</p>")).into_response();
    };
    let card = &person.card;
    let mut facts = vec![
        ("Number", number.to_string()),
        ("Office", person.office.clone()),
        ("Manager", person.manager.to_owned()),
        ("Since", person.since.clone()),
    ];
    let mut fields = [
        field("Phone", "phone", &card.phone),
        choice("City", "city", &PERSON_CITIES, &card.city),
        choice("Team", "team", &TEAMS, &card.team),
        choice("Level", "level", &LEVELS, &card.level),
        field("Badge", "badge", &card.badge),
    ];
    if records.reordered {
        facts.reverse();
        fields.reverse();
    }
    let form = records.style.post(&format!("/person/{number}"), &fields.concat(), "Save");
    let (title, body) = (format!("Card of {}", person.name), records.style.facts(&facts) + &form);
    records.opened.push(number);
    records.page(&title, "", &body)
}

#[derive(Deserialize)]
struct CardForm {
    phone: String,
    city: String,
    team: String,
    level: String,
    badge: String,
}

async fn change(State(records): SharedRecords, Path(number): Path<u32>, Form(form): Form<CardForm>) -> Redirect {
    let records = &mut *lock(&records);
    let card =
        Card { phone: form.phone.trim().into(), city: form.city, team: form.team, level: form.level, badge: form.badge.trim().into() };
    if records.needs_reason.contains(&number) && !records.has(number, &card) {
        records.pending = Some((number, card));
        return Redirect::to(&format!("/person/{number}/reason"));
    }
    records.store(number, card);
    Redirect::to("/people")
}

async fn reason(State(records): SharedRecords, Path(number): Path<u32>) -> Response {
    let records = &mut *lock(&records);
    let form = records.style.post(&format!("/person/{number}/reason"), &field("Reason", "reason", ""), "Save");
    let name = records.person(number).map(|person| person.name.clone()).unwrap_or_default();
    records.page(&format!("Reason for {name}"), "", &("<p>This change needs a reason.</p>".to_owned() + &form))
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

async fn give_reason(State(records): SharedRecords, Path(number): Path<u32>, Form(form): Form<Reason>) -> Redirect {
    let records = &mut *lock(&records);
    let text = form.reason.trim().to_owned();
    match records.pending.take_if(|(waiting, _)| *waiting == number && !text.is_empty()) {
        Some((number, card)) => {
            records.reasons.push((number, text));
            records.store(number, card);
            Redirect::to("/people")
        }
        None => Redirect::to(&format!("/person/{number}/reason")),
    }
}

async fn new(State(records): SharedRecords) -> Response {
    let records = &mut *lock(&records);
    let with_choose =
        |options: &[&'static str]| -> Vec<&'static str> { std::iter::once("Choose").chain(options.iter().copied()).collect() };
    let mut fields = [
        field("Name", "name", ""),
        field("Phone", "phone", ""),
        choice("City", "city", &with_choose(&PERSON_CITIES), "Choose"),
        choice("Team", "team", &with_choose(&TEAMS), "Choose"),
    ];
    if records.reordered {
        fields.rotate_left(2);
    }
    let body = records.style.post("/new", &fields.concat(), "Save");
    records.page("Somebody new", "", &body)
}

#[derive(Deserialize)]
struct NewPerson {
    name: String,
    phone: String,
    city: String,
    team: String,
}

async fn add(State(records): SharedRecords, Form(form): Form<NewPerson>) -> Redirect {
    let records = &mut *lock(&records);
    let name = form.name.trim().to_owned();
    if name.is_empty() {
        records.message = "Please fill in the name".into();
        return Redirect::to("/new");
    }
    let number = records.next_number;
    records.next_number += 3;
    records.message = format!("Added {name}, number {number}");
    let card = Card { phone: form.phone.trim().into(), city: form.city, team: form.team, level: "1".into(), badge: String::new() };
    records.people.push(Person { number, name, card, office: "none".into(), manager: "none", since: "today".into(), bulk_action: None });
    Redirect::to("/people")
}

/// Applies a bulk action. It parses the body itself, because the form repeats the name `who`.
async fn bulk(State(records): SharedRecords, body: String) -> Redirect {
    let records = &mut *lock(&records);
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let action = pairs.iter().find(|(name, _)| name == "action").map(|(_, value)| value.clone()).unwrap_or_default();
    let who: Vec<u32> = pairs.iter().filter(|(name, _)| name == "who").filter_map(|(_, value)| value.parse().ok()).collect();
    if !ACTIONS.contains(&action.as_str()) || who.is_empty() {
        records.message = "Please choose people and an action".into();
        return Redirect::to("/people");
    }
    for person in records.people.iter_mut().filter(|person| who.contains(&person.number)) {
        person.bulk_action = Some(action.clone());
    }
    records.message = format!("{action} done for {}", who.len());
    Redirect::to("/people")
}

async fn rooms(State(records): SharedRecords) -> Response {
    let records = &mut *lock(&records);
    let rows: Vec<Vec<String>> =
        ROOMS.iter().enumerate().map(|(at, room)| vec![(*room).to_owned(), format!("{} seats", 4 + at * 2)]).collect();
    let body = records.style.rows(&["Room", "Size"], &rows) + &format!("<p>{}</p>", records.style.nav("/book", "New booking"));
    records.page("Where to meet", "", &body)
}

impl Records {
    fn booking_page(&mut self, known: &Booking) -> Response {
        let rooms: Vec<&str> = std::iter::once("Choose").chain(ROOMS).collect();
        let mut fields =
            [choice("Room", "room", &rooms, &known.room), field("Date", "date", &known.date), field("Name", "name", &known.name)];
        if self.reordered {
            fields.rotate_left(1);
        }
        let body = self.style.post("/book", &fields.concat(), "Book");
        self.page("When and where", "", &body)
    }
}

async fn booking(State(records): SharedRecords) -> Response {
    lock(&records).booking_page(&Booking { room: "Choose".into(), date: String::new(), name: String::new() })
}

#[derive(Deserialize)]
struct BookingForm {
    room: String,
    date: String,
    name: String,
}

async fn book(State(records): SharedRecords, Form(form): Form<BookingForm>) -> Response {
    let records = &mut *lock(&records);
    let wanted = Booking { room: form.room, date: form.date.trim().into(), name: form.name.trim().into() };
    if wanted.room == "Choose" || wanted.date.is_empty() || wanted.name.is_empty() {
        records.message = "Please fill in everything".into();
        return records.booking_page(&wanted);
    }
    if records.bookings.iter().any(|known| known.room == wanted.room && known.date == wanted.date) {
        records.message = format!("{} is taken on that day", wanted.room);
        return records.booking_page(&wanted);
    }
    records.message = format!("Booked {} for {}", wanted.room, wanted.name);
    records.bookings.push(wanted);
    Redirect::to("/rooms").into_response()
}

async fn badge(State(records): SharedRecords, Path(_name): Path<String>) -> Json<serde_json::Value> {
    let records = &mut *lock(&records);
    records.api_called = true;
    Json(json!({ "badge_number": records.badge }))
}
