//! The records desk: a table of people with edit forms and bulk actions, and room bookings.

mod pages;
mod tasks;
mod tasks_long;

use crate::page::Style;
use crate::seeded::{CITIES, FIRST, LAST, MONTHS, Rng, TEAMS};
use crate::template::{Level, SiteKind, Template};

/// Tasks that play at the records desk.
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

/// People on one page of the table.
const PAGE: usize = 8;
/// Bulk actions.
pub(crate) const ACTIONS: [&str; 3] = ["Archive", "Invite", "Suspend"];
/// Rooms.
pub(crate) const ROOMS: [&str; 5] = ["Cedar", "Birch", "Elm", "Pine", "Willow"];
/// Levels.
pub(crate) const GRADES: [&str; 5] = ["1", "2", "3", "4", "5"];
/// Cities that a person can be in.
pub(crate) const PLACES: [&str; 8] = {
    let mut places = [""; 8];
    let mut at = 0;
    while at < 8 {
        places[at] = CITIES[at];
        at += 1;
    }
    places
};

/// What a card holds and a form can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) phone: String,
    pub(crate) city: String,
    pub(crate) team: String,
    pub(crate) level: String,
    pub(crate) badge: String,
}

impl Card {
    /// The fields with their names, in the order in which changes are told.
    pub(crate) fn fields(&self) -> [(&'static str, &str); 5] {
        [("phone", &self.phone), ("city", &self.city), ("team", &self.team), ("level", &self.level), ("badge", &self.badge)]
    }
}

/// `Saved Ana Diaz: phone 4411, city Oslo`: what the site says after a change.
pub(crate) fn saved(name: &str, before: &Card, after: &Card) -> String {
    let changes: Vec<String> = after
        .fields()
        .into_iter()
        .zip(before.fields())
        .filter(|(new, old)| new != old)
        .map(|((field, value), _)| format!("{field} {value}"))
        .collect();
    format!("Saved {name}: {}", changes.join(", "))
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) card: Card,
    pub(crate) office: String,
    pub(crate) manager: &'static str,
    pub(crate) since: String,
    /// The bulk action that was applied, if any.
    pub(crate) marked: Option<String>,
}

/// A room on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Booking {
    pub(crate) room: String,
    pub(crate) date: String,
    pub(crate) name: String,
}

/// The records desk's state.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) style: Style,
    pub(crate) people: Vec<Person>,
    /// Numbers of the people whose change needs a reason.
    pub(crate) asks_reason: Vec<u32>,
    /// A change that waits for its reason: number and card.
    pub(crate) pending: Option<(u32, Card)>,
    /// Reasons given: number and text.
    pub(crate) reasons: Vec<(u32, String)>,
    pub(crate) bookings: Vec<Booking>,
    /// What `/api/badge/…` gives out.
    pub(crate) badge: String,
    pub(crate) asked: bool,
    /// Numbers of the cards that were opened.
    pub(crate) opened: Vec<u32>,
    /// The next person's number.
    pub(crate) next: u32,
    pub(crate) message: String,
    /// Order of fields.
    pub(crate) turned: bool,
}

impl Records {
    /// So many people, some with a name in common.
    pub(crate) fn draw(rng: &mut Rng, count: usize) -> Self {
        let (first, last) = (rng.sample(&FIRST, 6), rng.sample(&LAST, 6));
        let names: Vec<String> = first.iter().flat_map(|first| last.iter().map(move |last| format!("{first} {last}"))).collect();
        let numbers = rng.numbers(100, 899, count);
        let people = rng
            .sample(&names, count)
            .into_iter()
            .zip(numbers)
            .map(|(name, number)| Person {
                number,
                name,
                card: Card {
                    phone: rng.digits(),
                    city: rng.pick(&PLACES).into(),
                    team: rng.pick(&TEAMS).into(),
                    level: rng.pick(&GRADES).into(),
                    badge: String::new(),
                },
                office: rng.between(101, 499).to_string(),
                manager: rng.pick(&LAST),
                since: date(rng),
                marked: None,
            })
            .collect();
        Self {
            style: Style::draw(rng, "Records"),
            people,
            asks_reason: Vec::new(),
            pending: None,
            reasons: Vec::new(),
            bookings: Vec::new(),
            badge: rng.digits(),
            asked: false,
            opened: Vec::new(),
            next: rng.between(900, 990),
            message: String::new(),
            turned: rng.chance(50),
        }
    }

    /// The person with this number.
    pub(crate) fn person(&self, number: u32) -> Option<&Person> {
        self.people.iter().find(|person| person.number == number)
    }

    /// Whether somebody's card is as wanted.
    pub(crate) fn has(&self, number: u32, card: &Card) -> bool {
        self.person(number).is_some_and(|person| person.card == *card)
    }
}

/// A guard: all people but these are as they were, and nobody was added.
pub(crate) fn others_untouched(records: &Records, but: &[u32]) -> impl Fn(&Records) -> bool + Send + Sync + use<> {
    let kept: Vec<Person> = records.people.iter().filter(|person| !but.contains(&person.number)).cloned().collect();
    let count = records.people.len();
    move |records| records.people.len() == count && kept.iter().all(|person| records.people.contains(person))
}

/// One of these that is not the value now.
pub(crate) fn another(rng: &mut Rng, options: &[&'static str], now: &str) -> String {
    let rest: Vec<&str> = options.iter().copied().filter(|option| *option != now).collect();
    rng.pick(&rest).to_owned()
}

/// Four digits that are not the value now.
pub(crate) fn other_digits(rng: &mut Rng, now: &str) -> String {
    loop {
        let digits = rng.digits();
        if digits != now {
            return digits;
        }
    }
}

/// A day, as `12 May`.
pub(crate) fn date(rng: &mut Rng) -> String {
    format!("{} {}", rng.between(1, 28), rng.pick(&MONTHS))
}
