//! The state of a records desk.

use crate::page::Style;
use crate::seeded::{CITIES, FIRST_NAMES, LAST_NAMES, MONTHS, Rng, TEAMS};

/// The number of people on one page of the table.
pub(super) const PAGE_SIZE: usize = 8;
/// The bulk actions.
pub(crate) const ACTIONS: [&str; 3] = ["Archive", "Invite", "Suspend"];
/// The rooms that can be booked.
pub(crate) const ROOMS: [&str; 5] = ["Cedar", "Birch", "Elm", "Pine", "Willow"];
/// The levels that a person can have.
pub(crate) const LEVELS: [&str; 5] = ["1", "2", "3", "4", "5"];
/// The cities that a person can be in: the first eight of all cities.
pub(crate) const PERSON_CITIES: [&str; 8] = {
    let mut places = [""; 8];
    let mut at = 0;
    while at < 8 {
        places[at] = CITIES[at];
        at += 1;
    }
    places
};

/// The fields of a person's card that a form can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) phone: String,
    pub(crate) city: String,
    pub(crate) team: String,
    pub(crate) level: String,
    pub(crate) badge: String,
}

impl Card {
    /// Returns the fields with their names, in the order in which a message lists changes.
    pub(crate) fn fields(&self) -> [(&'static str, &str); 5] {
        [("phone", &self.phone), ("city", &self.city), ("team", &self.team), ("level", &self.level), ("badge", &self.badge)]
    }
}

/// Returns the site's message after a change, such as `Saved Ana Diaz: phone 4411, city Oslo`.
pub(crate) fn saved_message(name: &str, before: &Card, after: &Card) -> String {
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
    pub(crate) bulk_action: Option<String>,
}

/// The booking of a room on a day.
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
    /// The numbers of the people whose cards are changed only with a reason.
    pub(crate) needs_reason: Vec<u32>,
    /// A change that waits for its reason: the person's number and the new card.
    pub(crate) pending: Option<(u32, Card)>,
    /// The reasons that were given: the person's number and the text.
    pub(crate) reasons: Vec<(u32, String)>,
    pub(crate) bookings: Vec<Booking>,
    /// The badge number that `/api/badge/…` returns.
    pub(crate) badge: String,
    /// Whether `/api/badge/…` was called.
    pub(crate) api_called: bool,
    /// The numbers of the people whose cards were opened, in order.
    pub(crate) opened: Vec<u32>,
    /// The number of the next new person.
    pub(crate) next_number: u32,
    /// The message that the next page shows.
    pub(crate) message: String,
    /// Whether fields, facts and links are shown in another order.
    pub(crate) reordered: bool,
}

impl Records {
    /// Draws a records desk with this many people; some share a first or last name.
    pub(crate) fn draw(rng: &mut Rng, count: usize) -> Self {
        let (first, last) = (rng.sample(&FIRST_NAMES, 6), rng.sample(&LAST_NAMES, 6));
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
                    city: rng.pick(&PERSON_CITIES).into(),
                    team: rng.pick(&TEAMS).into(),
                    level: rng.pick(&LEVELS).into(),
                    badge: String::new(),
                },
                office: rng.between(101, 499).to_string(),
                manager: rng.pick(&LAST_NAMES),
                since: date(rng),
                bulk_action: None,
            })
            .collect();
        Self {
            style: Style::draw(rng, "Records"),
            people,
            needs_reason: Vec::new(),
            pending: None,
            reasons: Vec::new(),
            bookings: Vec::new(),
            badge: rng.digits(),
            api_called: false,
            opened: Vec::new(),
            next_number: rng.between(900, 990),
            message: String::new(),
            reordered: rng.chance(50),
        }
    }

    /// Returns the person with this number.
    pub(crate) fn person(&self, number: u32) -> Option<&Person> {
        self.people.iter().find(|person| person.number == number)
    }

    /// Returns whether the person with this number has this card.
    pub(crate) fn has(&self, number: u32, card: &Card) -> bool {
        self.person(number).is_some_and(|person| person.card == *card)
    }
}

/// Makes a condition that holds as long as all people except these are unchanged and nobody was added.
pub(crate) fn others_unchanged(records: &Records, but: &[u32]) -> impl Fn(&Records) -> bool + Send + Sync + use<> {
    let kept: Vec<Person> = records.people.iter().filter(|person| !but.contains(&person.number)).cloned().collect();
    let count = records.people.len();
    move |records| records.people.len() == count && kept.iter().all(|person| records.people.contains(person))
}

/// Draws one of these options, but not the present one.
pub(crate) fn different_option(rng: &mut Rng, options: &[&'static str], now: &str) -> String {
    let rest: Vec<&str> = options.iter().copied().filter(|option| *option != now).collect();
    rng.pick(&rest).to_owned()
}

/// Draws four digits, but not the present ones.
pub(crate) fn different_digits(rng: &mut Rng, now: &str) -> String {
    loop {
        let digits = rng.digits();
        if digits != now {
            return digits;
        }
    }
}

/// Draws a day, such as `12 May`.
pub(crate) fn date(rng: &mut Rng) -> String {
    format!("{} {}", rng.between(1, 28), rng.pick(&MONTHS))
}
