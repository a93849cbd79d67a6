//! Long tasks at the records desk.

use super::state::{Card, PAGE_SIZE, PERSON_CITIES, Person, Records, different_digits, different_option, others_unchanged, saved_message};
use super::tasks::{open_card, reason_rule, save_card, search_and_open};
use crate::instance::{Draft, Instance};
use crate::plan_steps::{click_to_text, click_to_url, select_option, text_visible, type_text};
use crate::seeded::{Rng, TEAMS};

/// Draws a new phone and a new city for each of these people.
fn edits(rng: &mut Rng, people: &[Person]) -> Vec<(Person, Card)> {
    people
        .iter()
        .map(|person| {
            let card = &person.card;
            (
                person.clone(),
                Card { phone: different_digits(rng, &card.phone), city: different_option(rng, &PERSON_CITIES, &card.city), ..card.clone() },
            )
        })
        .collect()
}

/// Writes the edits as the goal lists them.
fn edit_list(edits: &[(Person, Card)]) -> String {
    edits
        .iter()
        .map(|(person, card)| format!("\"{}\" phone \"{}\" city \"{}\"", person.name, card.phone, card.city))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Adds a milestone for each edited card.
fn with_changes(mut draft: Draft<Records>, edits: Vec<(Person, Card)>) -> Draft<Records> {
    for (person, wanted) in edits {
        let (text, check) =
            (format!("the card of {} is saved", person.name), text_visible(saved_message(&person.name, &person.card, &wanted)));
        draft = draft.change(text, check, move |records| records.has(person.number, &wanted));
    }
    draft
}

/// Makes a condition that holds as long as the people that are not edited are unchanged.
fn unedited_unchanged(records: &Records, edits: &[(Person, Card)]) -> impl Fn(&Records) -> bool + Send + Sync + use<> {
    let numbers: Vec<u32> = edits.iter().map(|(person, _)| person.number).collect();
    others_unchanged(records, &numbers)
}

/// Makes a task that changes the cards of eight people on the first page of the table.
pub(super) fn edit_many(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 11);
    let people = rng.sample(&records.people[..PAGE_SIZE], PAGE_SIZE);
    let edits = edits(rng, &people);
    let list = edit_list(&edits);
    let goal =
        rng.pick(&[format!("Change phone and city of these people: {list}."), format!("Save these changes in the records: {list}.")]);
    let mut plan = Vec::new();
    for (person, card) in &edits {
        plan.extend([open_card(&person.name), type_text("Phone", &card.phone), select_option("City", &card.city), save_card(&person.name)]);
    }
    let guard = unedited_unchanged(&records, &edits);
    with_changes(Draft::new(records, "/people", goal, plan).guard(guard), edits).finish()
}

/// Makes a task that changes the cards of five people found with the search; one or two of the changes need a reason.
pub(super) fn find_many(rng: &mut Rng) -> Instance {
    let mut records = Records::draw(rng, 16);
    let people = rng.sample(&records.people, 5);
    let asked = rng.between(1, 2) as usize;
    records.needs_reason = rng.sample(&people, asked).iter().map(|person| person.number).collect();
    let edits = edits(rng, &people);
    let (list, reason) = (edit_list(&edits), rng.pick(&["moved", "new job", "mistake", "request"]));
    let goal = rng.pick(&[
        format!("Search for each of these people and change phone and city: {list}. If the form asks for a reason use \"{reason}\"."),
        format!("Find these people with the search and save the changes: {list}. Give the reason \"{reason}\" where one is asked for."),
    ]);
    let mut plan = Vec::new();
    for (person, card) in &edits {
        plan.extend(search_and_open(&person.name));
        plan.extend([type_text("Phone", &card.phone), select_option("City", &card.city), save_card(&person.name)]);
    }
    let guard = unedited_unchanged(&records, &edits);
    let mut draft = Draft::new(records, "/people", goal, plan)
        .guard(guard)
        .unseen_change(move |records| records.reasons.len() == asked && records.reasons.iter().all(|(_, given)| given == reason));
    for (person, _) in &edits {
        draft = draft.rule(reason_rule(&person.name, reason));
    }
    with_changes(draft, edits).finish()
}

/// Makes a task that adds three new people; the answer is the number of the last.
pub(super) fn add_many(rng: &mut Rng) -> Instance {
    let records = Records::draw(rng, 7);
    let wanted: Vec<(String, Card)> = rng
        .people(3)
        .into_iter()
        .map(|name| {
            let card = Card {
                phone: rng.digits(),
                city: rng.pick(&PERSON_CITIES).into(),
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
            click_to_url("New person", "/new"),
            type_text("Name", name),
            type_text("Phone", &card.phone),
            select_option("City", &card.city),
            select_option("Team", &card.team),
        ]);
        plan.push(click_to_text("Save", format!("Added {name}")));
    }
    let number = records.next_number + 6;
    let last = wanted.last().map(|(name, _)| name.clone()).unwrap_or_default();
    let ways = [vec![format!("Added {last} number {number}")], vec![format!("Card of {last}"), format!("Number {number}")]];
    let mut draft =
        Draft::new(records, "/people", goal, plan).needs_fact(ways).answer(number.to_string()).guard(|records| records.people.len() == 10);
    for (name, card) in wanted {
        draft = draft.change(format!("{name} is added"), text_visible(format!("Added {name}")), move |records| {
            records.people.iter().any(|person| person.name == name && person.card == card)
        });
    }
    draft.finish()
}
