//! Easy and medium tasks at the records desk.

use milepost_runtime::{Check, Planned};

use super::{ACTIONS, Booking, Card, GRADES, PAGE, PLACES, Person, ROOMS, Records, another, date, other_digits, others_untouched, saved};
use crate::instance::{Draft, Instance};
use crate::oracle::{At, Resume, Rule};
use crate::plan_steps::{fetches, holds, leads, seen, selects, shows, ticks, types, types_result};
use crate::seeded::{Rng, TEAMS};

/// Opening a card from a table.
pub(super) fn open(name: &str) -> Planned {
    shows(name, format!("Card of {name}"))
}

/// Searching for somebody and opening the card.
pub(super) fn find(name: &str) -> Vec<Planned> {
    vec![types("Search", name), leads("Search", "/search"), open(name)]
}

/// Saving a card.
pub(super) fn save(name: &str) -> Planned {
    shows("Save", format!("Saved {name}"))
}

/// Giving a reason where the form asks for one.
pub(super) fn with_reason(name: &str, reason: &str) -> Rule {
    let save = save(name);
    let at = At::Step(save.text.clone());
    Rule {
        at,
        when: holds("Reason", "").and_seen(format!("Reason for {name}")),
        steps: vec![types("Reason", reason), save],
        resume: Resume::Next,
    }
}

/// Both checks.
trait AndSeen {
    fn and_seen(self, text: String) -> Check;
}

impl AndSeen for Check {
    fn and_seen(self, text: String) -> Check {
        Check::And(Box::new(self), Box::new(seen(text)))
    }
}

fn somebody(rng: &mut Rng, records: &Records) -> Person {
    records.people[rng.below(records.people.len().min(PAGE))].clone()
}

pub(super) fn phone(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let person = somebody(rng, &records);
    let (name, number) = (person.name.clone(), person.number);
    let wanted = Card { phone: other_digits(rng, &person.card.phone), ..person.card.clone() };
    let phone = &wanted.phone;
    let goal = rng.pick(&[
        format!("Change the phone of \"{name}\" to \"{phone}\"."),
        format!("Set \"Phone\" on the card of \"{name}\" to \"{phone}\" and save."),
        format!("\"{name}\" has a new phone: \"{phone}\". Save it."),
    ]);
    let plan = vec![open(&name), types("Phone", phone), save(&name)];
    let guard = others_untouched(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .fact(format!("the card of {name} is saved"), seen(saved(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .finish()
}

pub(super) fn lookup(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 14);
    let person = records.people[rng.below(14)].clone();
    let (fact, value) = [
        ("Number", person.number.to_string()),
        ("Office", person.office.clone()),
        ("Manager", person.manager.to_owned()),
        ("Since", person.since.clone()),
    ][rng.below(4)]
    .clone();
    let (name, number) = (person.name.clone(), person.number);
    let goal = rng.pick(&[
        format!("Search for \"{name}\" and report \"{fact}\" from the card."),
        format!("What is \"{fact}\" of \"{name}\"? Search for the card."),
    ]);
    Draft::new(records, "/people", goal, find(&name))
        .reads([vec![format!("Card of {name}"), format!("{fact} {value}")]])
        .stage(format!("the card of {name} is open"), seen(format!("Card of {name}")), move |records| records.opened.contains(&number))
        .answer(value)
        .finish()
}

fn pick_and_apply(people: &[Person], action: &str) -> Vec<Planned> {
    let mut plan: Vec<Planned> = people.iter().map(|person| ticks(&format!("Pick {}", person.name))).collect();
    plan.extend([selects("Action", action), shows("Apply", format!("{action} done for {}", people.len()))]);
    plan
}

fn marked(people: &[Person], action: &'static str) -> impl Fn(&Records) -> bool + Send + Sync + use<> {
    let numbers: Vec<u32> = people.iter().map(|person| person.number).collect();
    move |records| {
        numbers.iter().all(|number| records.person(*number).is_some_and(|person| person.marked.as_deref() == Some(action)))
            && records.people.iter().filter(|person| person.marked.is_some()).count() == numbers.len()
    }
}

pub(super) fn bulk(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let people = rng.sample(&records.people[..PAGE], 2);
    let action = rng.pick(&ACTIONS);
    let (one, two) = (&people[0].name, &people[1].name);
    let goal = rng.pick(&[
        format!("Pick \"{one}\" and \"{two}\" and apply the action \"{action}\"."),
        format!("Apply \"{action}\" to \"{one}\" and \"{two}\" in one go."),
    ]);
    Draft::new(records, "/people", goal, pick_and_apply(&people, action))
        .fact("the action is applied", seen(format!("{action} done for 2")), marked(&people, action))
        .finish()
}

pub(super) fn team(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 20);
    let team = rng.pick(&TEAMS);
    let members = rng.numbers(0, 19, 6);
    for (at, person) in records.people.iter_mut().enumerate() {
        match members.contains(&(at as u32)) {
            true => person.card.team = team.into(),
            false if person.card.team == team => person.card.team = another(rng, &TEAMS, team),
            false => {}
        }
    }
    let all: Vec<Person> = records.people.iter().filter(|person| person.card.team == team).cloned().collect();
    let (people, action) = (rng.sample(&all, 3), rng.pick(&ACTIONS));
    let (one, two, three) = (&people[0].name, &people[1].name, &people[2].name);
    let goal = rng.pick(&[
        format!("Search for the team \"{team}\". Pick \"{one}\", \"{two}\" and \"{three}\" and apply \"{action}\"."),
        format!("In the results for \"{team}\" apply the action \"{action}\" to \"{one}\", \"{two}\" and \"{three}\"."),
    ]);
    let mut plan = vec![types("Search", team), leads("Search", "/search")];
    plan.extend(pick_and_apply(&people, action));
    Draft::new(records, "/people", goal, plan)
        .fact("the action is applied", seen(format!("{action} done for 3")), marked(&people, action))
        .finish()
}

pub(super) fn edit(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 12);
    let person = records.people[rng.below(12)].clone();
    let (name, number) = (person.name.clone(), person.number);
    if rng.chance(80) {
        records.asks_reason.push(number);
    }
    let asked = !records.asks_reason.is_empty();
    let wanted =
        Card { phone: other_digits(rng, &person.card.phone), city: another(rng, &PLACES, &person.card.city), ..person.card.clone() };
    let (phone, city, reason) = (&wanted.phone, &wanted.city, rng.pick(&["moved", "new job", "mistake", "request"]));
    let goal = rng.pick(&[
        format!("Search for \"{name}\" and change phone to \"{phone}\" and city to \"{city}\". If the form asks for a reason use \"{reason}\"."),
        format!("Find \"{name}\" with the search. Set phone \"{phone}\", city \"{city}\" and save. Give the reason \"{reason}\" where one is asked for."),
    ]);
    let mut plan = find(&name);
    plan.extend([types("Phone", phone), selects("City", city), save(&name)]);
    let guard = others_untouched(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .rule(with_reason(&name, reason))
        .fact(format!("the card of {name} is saved"), seen(saved(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .need(move |records| !asked || records.reasons == [(number, reason.to_owned())])
        .finish()
}

pub(super) fn page(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 22);
    let person = records.people[PAGE + rng.below(22 - PAGE)].clone();
    let (name, number) = (person.name.clone(), person.number);
    let wanted =
        Card { team: another(rng, &TEAMS, &person.card.team), level: another(rng, &GRADES, &person.card.level), ..person.card.clone() };
    let (team, level) = (&wanted.team, &wanted.level);
    let goal = rng.pick(&[
        format!("Without searching, open \"{name}\" from the list and set team \"{team}\" and level \"{level}\"."),
        format!("Go through the pages of the list to \"{name}\". Change the team to \"{team}\" and the level to \"{level}\"."),
    ]);
    let plan = vec![open(&name), selects("Team", team), selects("Level", level), save(&name)];
    let guard = others_untouched(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .stage(format!("the card of {name} is open"), seen(format!("Card of {name}")), move |records| records.opened.contains(&number))
        .fact(format!("the card of {name} is saved"), seen(saved(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .finish()
}

pub(super) fn badge(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let person = somebody(rng, &records);
    let (name, number) = (person.name.clone(), person.number);
    let wanted = Card { level: another(rng, &GRADES, &person.card.level), badge: records.badge.clone(), ..person.card.clone() };
    let (level, path) = (&wanted.level, format!("/api/badge/{name}"));
    let goal = rng.pick(&[
        format!("Open \"{name}\", fetch \"{path}\" and type that number into \"Badge\". Set the level to \"{level}\" and save."),
        format!("The badge of \"{name}\" is at \"{path}\": fetch it and put it on the card, with level \"{level}\"."),
    ]);
    let number_told = format!("badge_number {}", records.badge);
    let plan = vec![open(&name), fetches(&path, "badge_number"), types_result("Badge"), selects("Level", level), save(&name)];
    let guard = others_untouched(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .reads([vec![number_told]])
        .stage("the badge is known", seen("badge_number"), |records| records.asked)
        .fact(format!("the card of {name} is saved"), seen(saved(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .finish()
}

pub(super) fn book(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 9);
    let (rooms, day, name) = (rng.sample(&ROOMS, 2), date(rng), somebody(rng, &records).name);
    let taken = rng.chance(80);
    if taken {
        records.bookings.push(Booking { room: rooms[0].into(), date: day.clone(), name: "Board".into() });
    }
    let (room, other) = (rooms[0], rooms[1]);
    let goal = rng.pick(&[
        format!("Book the room \"{room}\" on \"{day}\" for \"{name}\". If it is taken book \"{other}\" instead."),
        format!("Under rooms make a booking: \"{room}\", date \"{day}\", name \"{name}\". Take \"{other}\" where the first is taken."),
    ]);
    let book = shows("Book", "Booked");
    let plan = vec![
        leads("Rooms", "/rooms"),
        leads("New booking", "/book"),
        selects("Room", room),
        types("Date", &day),
        types("Name", &name),
        book.clone(),
    ];
    let got = Booking { room: if taken { other } else { room }.into(), date: day, name: name.clone() };
    let (text, count) = (format!("Booked {} for {name}", got.room), records.bookings.len() + 1);
    let guard = others_untouched(&records, &[]);
    // Whoever books the other room must have seen why.
    let why = taken.then(|| vec![vec![format!("{room} is taken")]]);
    Draft::new(records, "/people", goal, plan)
        .reads_all(why)
        .rule(Rule {
            at: At::Step(book.text.clone()),
            when: holds("Room", room).and_seen("is taken".into()),
            steps: vec![selects("Room", other), book],
            resume: Resume::Next,
        })
        .fact("the room is booked", seen(text), move |records| records.bookings.contains(&got))
        .guard(guard)
        .guard(move |records| records.bookings.len() == count)
        .finish()
}
