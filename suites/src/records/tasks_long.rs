//! Long tasks at the records desk.

use super::tasks::{find, open, save, with_reason};
use super::{Card, PAGE, PLACES, Person, Records, another, other_digits, others_untouched, saved};
use crate::instance::{Draft, Instance};
use crate::plan_steps::{leads, seen, selects, shows, types};
use crate::seeded::{Rng, TEAMS};

/// A new phone and a new city for each of these people.
fn edits(rng: &mut Rng, people: &[Person]) -> Vec<(Person, Card)> {
    people
        .iter()
        .map(|person| {
            let card = &person.card;
            (person.clone(), Card { phone: other_digits(rng, &card.phone), city: another(rng, &PLACES, &card.city), ..card.clone() })
        })
        .collect()
}

fn list(edits: &[(Person, Card)]) -> String {
    edits
        .iter()
        .map(|(person, card)| format!("\"{}\" phone \"{}\" city \"{}\"", person.name, card.phone, card.city))
        .collect::<Vec<_>>()
        .join("; ")
}

fn with_facts(mut draft: Draft<Records>, edits: Vec<(Person, Card)>) -> Draft<Records> {
    for (person, wanted) in edits {
        let (text, seen) = (format!("the card of {} is saved", person.name), seen(saved(&person.name, &person.card, &wanted)));
        draft = draft.fact(text, seen, move |records| records.has(person.number, &wanted));
    }
    draft
}

fn untouched(records: &Records, edits: &[(Person, Card)]) -> impl Fn(&Records) -> bool + Send + Sync + use<> {
    let numbers: Vec<u32> = edits.iter().map(|(person, _)| person.number).collect();
    others_untouched(records, &numbers)
}

/// Eight people from the first page of the table.
pub(super) fn edit_many(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let people = rng.sample(&records.people[..PAGE], PAGE);
    let edits = edits(rng, &people);
    let list = list(&edits);
    let goal =
        rng.pick(&[format!("Change phone and city of these people: {list}."), format!("Save these changes in the records: {list}.")]);
    let mut plan = Vec::new();
    for (person, card) in &edits {
        plan.extend([open(&person.name), types("Phone", &card.phone), selects("City", &card.city), save(&person.name)]);
    }
    let guard = untouched(&records, &edits);
    with_facts(Draft::new(records, "/people", goal, plan).guard(guard), edits).finish()
}

/// Five people found with the search; one or two of the changes need a reason.
pub(super) fn find_many(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 16);
    let people = rng.sample(&records.people, 5);
    let asked = rng.between(1, 2) as usize;
    records.asks_reason = rng.sample(&people, asked).iter().map(|person| person.number).collect();
    let edits = edits(rng, &people);
    let (list, reason) = (list(&edits), rng.pick(&["moved", "new job", "mistake", "request"]));
    let goal = rng.pick(&[
        format!("Search for each of these people and change phone and city: {list}. If the form asks for a reason use \"{reason}\"."),
        format!("Find these people with the search and save the changes: {list}. Give the reason \"{reason}\" where one is asked for."),
    ]);
    let mut plan = Vec::new();
    for (person, card) in &edits {
        plan.extend(find(&person.name));
        plan.extend([types("Phone", &card.phone), selects("City", &card.city), save(&person.name)]);
    }
    let guard = untouched(&records, &edits);
    let mut draft = Draft::new(records, "/people", goal, plan)
        .guard(guard)
        .need(move |records| records.reasons.len() == asked && records.reasons.iter().all(|(_, given)| given == reason));
    for (person, _) in &edits {
        draft = draft.rule(with_reason(&person.name, reason));
    }
    with_facts(draft, edits).finish()
}

/// Three new people; the answer is the number of the last.
pub(super) fn add_many(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 7);
    let wanted: Vec<(String, Card)> = rng
        .people(3)
        .into_iter()
        .map(|name| {
            let card = Card {
                phone: rng.digits(),
                city: rng.pick(&PLACES).into(),
                team: rng.pick(&TEAMS).into(),
                level: "1".into(),
                badge: String::new(),
            };
            (name, card)
        })
        .collect();
    let list: Vec<String> = wanted
        .iter()
        .map(|(name, card)| format!("\"{name}\" phone \"{}\" city \"{}\" team \"{}\"", card.phone, card.city, card.team))
        .collect();
    let list = list.join("; ");
    let goal = rng.pick(&[
        format!("Add these people: {list}. Report the number of the last one."),
        format!("Register three new persons: {list}. Which number does the last one get?"),
    ]);
    let mut plan = Vec::new();
    for (name, card) in &wanted {
        plan.extend([
            leads("New person", "/new"),
            types("Name", name),
            types("Phone", &card.phone),
            selects("City", &card.city),
            selects("Team", &card.team),
        ]);
        plan.push(shows("Save", format!("Added {name}")));
    }
    let number = records.next + 6;
    let last = wanted.last().map(|(name, _)| name.clone()).unwrap_or_default();
    let ways = [vec![format!("Added {last} number {number}")], vec![format!("Card of {last}"), format!("Number {number}")]];
    let mut draft =
        Draft::new(records, "/people", goal, plan).reads(ways).answer(number.to_string()).guard(|records| records.people.len() == 10);
    for (name, card) in wanted {
        draft = draft.fact(format!("{name} is added"), seen(format!("Added {name}")), move |records| {
            records.people.iter().any(|person| person.name == name && person.card == card)
        });
    }
    draft.finish()
}
