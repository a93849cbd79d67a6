//! Long tasks in the shop.

use super::state::{Checkout, DELIVERIES, Review, Shop};
use super::tasks::{fill_address, search_for};
use crate::instance::{Draft, Instance};
use crate::oracle::{CursorAt, Resume, RevisionRule};
use crate::plan_steps::{click_to_text, click_to_url, field_is, select_option, text_visible, tick, type_text};
use crate::seeded::{CITIES, REMARKS, Rng, STREETS};

/// Makes a task with four products and the whole checkout; the form may ask for a tax number.
pub(super) fn order_many(rng: &mut Rng) -> Instance {
    let mut shop = Shop::draw(rng);
    shop.asks_tax_number = rng.chance(80);
    let items: Vec<(usize, u32)> = rng.numbers(0, 9, 4).into_iter().map(|item| (item as usize, rng.between(2, 9))).collect();
    let tax = rng.digits();
    let wanted = Checkout {
        name: rng.people(1).concat(),
        street: rng.pick(&STREETS).into(),
        zip: rng.digits(),
        city: CITIES[rng.below(10)].into(),
        delivery: rng.pick(&DELIVERIES).into(),
        gift: true,
        tax: if shop.asks_tax_number { tax.clone() } else { String::new() },
    };
    let list: Vec<String> = items.iter().map(|(item, quantity)| format!("\"{quantity}\" of \"{}\"", shop.name(*item))).collect();
    let (list, Checkout { name, street, zip, city, delivery, .. }) = (list.join(", "), wanted.clone());
    let goal = rng.pick(&[
        format!(
            "Order {list}. Name \"{name}\", street \"{street}\", zip \"{zip}\", city \"{city}\", delivery \"{delivery}\", with \"Gift wrap\". \
             If the form asks for a tax number use \"{tax}\"."
        ),
        format!(
            "Buy {list} for \"{name}\", \"{street}\", zip \"{zip}\", \"{city}\", sent by \"{delivery}\" with \"Gift wrap\". \
             Use the tax number \"{tax}\" where one is asked for."
        ),
    ]);
    let mut plan = Vec::new();
    for (item, quantity) in &items {
        plan.extend(search_for(&shop.name(*item)));
        plan.extend([type_text("Quantity", &quantity.to_string()), click_to_text("Add to cart", format!("Added {quantity}"))]);
    }
    plan.extend([click_to_url("Cart", "/cart"), click_to_url("Checkout", "/address")]);
    plan.extend(fill_address(&wanted));
    let on = click_to_url("Continue", "/review");
    plan.extend([tick(&delivery), tick("Gift wrap"), on.clone(), click_to_url("Place order", "/order")]);
    let names: Vec<String> = items.iter().map(|(item, _)| shop.name(*item)).collect();
    let mut draft = Draft::new(shop, "/", goal, plan).rule(RevisionRule {
        cursor: CursorAt::Step(on.text.clone()),
        when: field_is("Tax number", ""),
        steps: vec![type_text("Tax number", &tax), on],
        resume: Resume::Next,
    });
    for ((item, quantity), name) in items.into_iter().zip(names) {
        let text = format!("Added {quantity} {name}");
        draft = draft.change(format!("{name} is in the cart"), text_visible(text), move |shop| shop.has_line(item, quantity));
    }
    draft
        .change("the order is placed", text_visible("Order number"), |shop| shop.order.is_some())
        .unseen_change(move |shop| shop.checkout == wanted)
        .guard(|shop| shop.order.as_ref().is_some_and(|lines| lines.len() == 4))
        .finish()
}

/// Makes a task that reviews three products.
pub(super) fn reviews(rng: &mut Rng) -> Instance {
    let shop = Shop::draw(rng);
    let texts = rng.sample(&REMARKS, 3);
    let wanted: Vec<Review> = rng
        .numbers(0, 9, 3)
        .into_iter()
        .zip(texts)
        .map(|(item, text)| Review { item: item as usize, stars: rng.between(1, 5).to_string(), text: text.into() })
        .collect();
    let list: Vec<String> =
        wanted.iter().map(|review| format!("\"{}\": \"{}\" stars, \"{}\"", shop.name(review.item), review.stars, review.text)).collect();
    let goal = rng.pick(&[format!("Send these reviews: {}.", list.join("; ")), format!("Write a review of each: {}.", list.join("; "))]);
    let mut plan = Vec::new();
    for review in &wanted {
        let name = shop.name(review.item);
        plan.extend(search_for(&name));
        plan.extend([
            click_to_url("Reviews", "/reviews"),
            select_option("Stars", &review.stars),
            type_text("Review", &review.text),
            click_to_text("Send review", format!("Review of {name} sent")),
        ]);
    }
    let names: Vec<String> = wanted.iter().map(|review| shop.name(review.item)).collect();
    let mut draft = Draft::new(shop, "/", goal, plan);
    for (review, name) in wanted.into_iter().zip(names) {
        let text = format!("Review of {name} sent");
        draft = draft.change(text.clone(), text_visible(text), move |shop| shop.reviews.contains(&review));
    }
    draft.guard(|shop| shop.reviews.len() == 3 && shop.cart.is_empty()).finish()
}
