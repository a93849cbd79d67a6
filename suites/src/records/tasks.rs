//! Easy and medium tasks at the records desk.

use milepost_runtime::{Check, Planned};

use super::state::{
    ACTIONS, Booking, Card, LEVELS, PAGE_SIZE, PERSON_CITIES, Person, ROOMS, Records, date, different_digits, different_option,
    others_unchanged, saved_message,
};
use crate::instance::{Draft, Instance};
use crate::oracle::{CursorAt, Resume, RevisionRule};
use crate::plan_steps::{click_to_text, click_to_url, fetch_json, field_is, select_option, text_visible, tick, type_result, type_text};
use crate::seeded::{Rng, TEAMS};

/// Plans the step that opens a card from a table.
pub(super) fn open_card(name: &str) -> Planned {
    click_to_text(name, format!("Card of {name}"))
}

/// Plans the steps that search for a person and open the card.
pub(super) fn search_and_open(name: &str) -> Vec<Planned> {
    vec![type_text("Search", name), click_to_url("Search", "/search"), open_card(name)]
}

/// Plans the step that saves a card.
pub(super) fn save_card(name: &str) -> Planned {
    click_to_text("Save", format!("Saved {name}"))
}

/// Makes the rule that gives a reason where the form asks for one.
pub(super) fn reason_rule(name: &str, reason: &str) -> RevisionRule {
    let save = save_card(name);
    RevisionRule {
        cursor: CursorAt::Step(save.text.clone()),
        when: and_text_visible(field_is("Reason", ""), format!("Reason for {name}")),
        steps: vec![type_text("Reason", reason), save],
        resume: Resume::Next,
    }
}

/// Joins a check with a check for visible text.
fn and_text_visible(check: Check, text: impl Into<String>) -> Check {
    Check::And(Box::new(check), Box::new(text_visible(text)))
}

/// Draws a person on the first page of the table.
fn anyone_on_first_page(rng: &mut Rng, records: &Records) -> Person {
    records.people[rng.below(records.people.len().min(PAGE_SIZE))].clone()
}

pub(super) fn phone(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let person = anyone_on_first_page(rng, &records);
    let (name, number) = (person.name.clone(), person.number);
    let wanted = Card { phone: different_digits(rng, &person.card.phone), ..person.card.clone() };
    let phone = &wanted.phone;
    let goal = rng.pick(&[
        format!("Change the phone of \"{name}\" to \"{phone}\"."),
        format!("Set \"Phone\" on the card of \"{name}\" to \"{phone}\" and save."),
        format!("\"{name}\" has a new phone: \"{phone}\". Save it."),
    ]);
    let plan = vec![open_card(&name), type_text("Phone", phone), save_card(&name)];
    let guard = others_unchanged(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .change(format!("the card of {name} is saved"), text_visible(saved_message(&name, &person.card, &wanted)), move |records| {
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
    Draft::new(records, "/people", goal, search_and_open(&name))
        .needs_fact([vec![format!("Card of {name}"), format!("{fact} {value}")]])
        .stage(format!("the card of {name} is open"), text_visible(format!("Card of {name}")), move |records| {
            records.opened.contains(&number)
        })
        .answer(value)
        .finish()
}

/// Plans the steps that apply a bulk action to these people.
fn pick_and_apply(people: &[Person], action: &str) -> Vec<Planned> {
    let mut plan: Vec<Planned> = people.iter().map(|person| tick(&format!("Pick {}", person.name))).collect();
    plan.extend([select_option("Action", action), click_to_text("Apply", format!("{action} done for {}", people.len()))]);
    plan
}

/// Makes a condition that holds when exactly these people have the bulk action.
fn has_bulk_action(people: &[Person], action: &'static str) -> impl Fn(&Records) -> bool + Send + Sync + use<> {
    let numbers: Vec<u32> = people.iter().map(|person| person.number).collect();
    move |records| {
        numbers.iter().all(|number| records.person(*number).is_some_and(|person| person.bulk_action.as_deref() == Some(action)))
            && records.people.iter().filter(|person| person.bulk_action.is_some()).count() == numbers.len()
    }
}

pub(super) fn bulk(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let people = rng.sample(&records.people[..PAGE_SIZE], 2);
    let action = rng.pick(&ACTIONS);
    let (one, two) = (&people[0].name, &people[1].name);
    let goal = rng.pick(&[
        format!("Pick \"{one}\" and \"{two}\" and apply the action \"{action}\"."),
        format!("Apply \"{action}\" to \"{one}\" and \"{two}\" in one go."),
    ]);
    Draft::new(records, "/people", goal, pick_and_apply(&people, action))
        .change("the action is applied", text_visible(format!("{action} done for 2")), has_bulk_action(&people, action))
        .finish()
}

pub(super) fn team(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 20);
    let team = rng.pick(&TEAMS);
    let members = rng.numbers(0, 19, 6);
    for (at, person) in records.people.iter_mut().enumerate() {
        match members.contains(&(at as u32)) {
            true => person.card.team = team.into(),
            false if person.card.team == team => person.card.team = different_option(rng, &TEAMS, team),
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
    let mut plan = vec![type_text("Search", team), click_to_url("Search", "/search")];
    plan.extend(pick_and_apply(&people, action));
    Draft::new(records, "/people", goal, plan)
        .change("the action is applied", text_visible(format!("{action} done for 3")), has_bulk_action(&people, action))
        .finish()
}

pub(super) fn edit(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 12);
    let person = records.people[rng.below(12)].clone();
    let (name, number) = (person.name.clone(), person.number);
    if rng.chance(80) {
        records.needs_reason.push(number);
    }
    let asked = !records.needs_reason.is_empty();
    let wanted = Card {
        phone: different_digits(rng, &person.card.phone),
        city: different_option(rng, &PERSON_CITIES, &person.card.city),
        ..person.card.clone()
    };
    let (phone, city, reason) = (&wanted.phone, &wanted.city, rng.pick(&["moved", "new job", "mistake", "request"]));
    let goal = rng.pick(&[
        format!("Search for \"{name}\" and change phone to \"{phone}\" and city to \"{city}\". If the form asks for a reason use \"{reason}\"."),
        format!("Find \"{name}\" with the search. Set phone \"{phone}\", city \"{city}\" and save. Give the reason \"{reason}\" where one is asked for."),
    ]);
    let mut plan = search_and_open(&name);
    plan.extend([type_text("Phone", phone), select_option("City", city), save_card(&name)]);
    let guard = others_unchanged(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .rule(reason_rule(&name, reason))
        .change(format!("the card of {name} is saved"), text_visible(saved_message(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .unseen_change(move |records| !asked || records.reasons == [(number, reason.to_owned())])
        .finish()
}

pub(super) fn page(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 22);
    let person = records.people[PAGE_SIZE + rng.below(22 - PAGE_SIZE)].clone();
    let (name, number) = (person.name.clone(), person.number);
    let wanted = Card {
        team: different_option(rng, &TEAMS, &person.card.team),
        level: different_option(rng, &LEVELS, &person.card.level),
        ..person.card.clone()
    };
    let (team, level) = (&wanted.team, &wanted.level);
    let goal = rng.pick(&[
        format!("Without searching, open \"{name}\" from the list and set team \"{team}\" and level \"{level}\"."),
        format!("Go through the pages of the list to \"{name}\". Change the team to \"{team}\" and the level to \"{level}\"."),
    ]);
    let plan = vec![open_card(&name), select_option("Team", team), select_option("Level", level), save_card(&name)];
    let guard = others_unchanged(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .stage(format!("the card of {name} is open"), text_visible(format!("Card of {name}")), move |records| {
            records.opened.contains(&number)
        })
        .change(format!("the card of {name} is saved"), text_visible(saved_message(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .finish()
}

pub(super) fn badge(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let person = anyone_on_first_page(rng, &records);
    let (name, number) = (person.name.clone(), person.number);
    let wanted = Card { level: different_option(rng, &LEVELS, &person.card.level), badge: records.badge.clone(), ..person.card.clone() };
    let (level, path) = (&wanted.level, format!("/api/badge/{name}"));
    let goal = rng.pick(&[
        format!("Open \"{name}\", fetch \"{path}\" and type that number into \"Badge\". Set the level to \"{level}\" and save."),
        format!("The badge of \"{name}\" is at \"{path}\": fetch it and put it on the card, with level \"{level}\"."),
    ]);
    let number_told = format!("badge_number {}", records.badge);
    let plan =
        vec![open_card(&name), fetch_json(&path, "badge_number"), type_result("Badge"), select_option("Level", level), save_card(&name)];
    let guard = others_unchanged(&records, &[number]);
    Draft::new(records, "/people", goal, plan)
        .needs_fact([vec![number_told]])
        .stage("the badge is known", text_visible("badge_number"), |records| records.api_called)
        .change(format!("the card of {name} is saved"), text_visible(saved_message(&name, &person.card, &wanted)), move |records| {
            records.has(number, &wanted)
        })
        .guard(guard)
        .finish()
}

pub(super) fn book(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 9);
    let (rooms, day, name) = (rng.sample(&ROOMS, 2), date(rng), anyone_on_first_page(rng, &records).name);
    let taken = rng.chance(80);
    if taken {
        records.bookings.push(Booking { room: rooms[0].into(), date: day.clone(), name: "Board".into() });
    }
    let (room, other) = (rooms[0], rooms[1]);
    let goal = rng.pick(&[
        format!("Book the room \"{room}\" on \"{day}\" for \"{name}\". If it is taken book \"{other}\" instead."),
        format!("Under rooms make a booking: \"{room}\", date \"{day}\", name \"{name}\". Take \"{other}\" where the first is taken."),
    ]);
    let book = click_to_text("Book", "Booked");
    let plan = vec![
        click_to_url("Rooms", "/rooms"),
        click_to_url("New booking", "/book"),
        select_option("Room", room),
        type_text("Date", &day),
        type_text("Name", &name),
        book.clone(),
    ];
    let got = Booking { room: if taken { other } else { room }.into(), date: day, name: name.clone() };
    let (text, count) = (format!("Booked {} for {name}", got.room), records.bookings.len() + 1);
    let guard = others_unchanged(&records, &[]);
    // An agent that books the other room must have seen why.
    let why = taken.then(|| vec![vec![format!("{room} is taken")]]);
    Draft::new(records, "/people", goal, plan)
        .needs_facts(why)
        .rule(RevisionRule {
            cursor: CursorAt::Step(book.text.clone()),
            when: and_text_visible(field_is("Room", room), "is taken"),
            steps: vec![select_option("Room", other), book],
            resume: Resume::Next,
        })
        .change("the room is booked", text_visible(text), move |records| records.bookings.contains(&got))
        .guard(guard)
        .guard(move |records| records.bookings.len() == count)
        .finish()
}
