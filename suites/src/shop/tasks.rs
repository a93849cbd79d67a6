//! Easy and medium tasks in the shop.

use milepost_runtime::Planned;

use super::state::{CartLine, Checkout, DELIVERIES, PAGE_SIZE, Shop};
use crate::instance::{Draft, Instance};
use crate::oracle::{CursorAt, Resume, RevisionRule};
use crate::plan_steps::{
    click_to_text, click_to_url, fetch_json, text_visible, tick, type_result, type_text, url_contains, with_answer_step,
};
use crate::seeded::{CITIES, Rng, STREETS};

/// Plans the steps that search for an item and open its page.
pub(super) fn search_for(name: &str) -> Vec<Planned> {
    vec![type_text("Search", name), click_to_url("Search", "/search"), click_to_text(name, format!("About {name}"))]
}

pub(super) fn add(rng: &mut Rng) -> Instance {
    let shop = Shop::draw(rng);
    let item = rng.below(PAGE_SIZE);
    let name = shop.name(item);
    let goal = rng.pick(&[
        format!("Put \"{name}\" into the cart."),
        format!("Add one \"{name}\" to my cart."),
        format!("I want \"{name}\" in the cart."),
    ]);
    let plan = vec![click_to_text(&name, format!("About {name}")), click_to_text("Add to cart", format!("Added 1 {name}"))];
    Draft::new(shop, "/", goal, plan)
        .change(format!("{name} is in the cart"), text_visible(format!("Added 1 {name}")), move |shop| shop.has_line(item, 1))
        .guard(|shop| shop.cart.len() == 1)
        .finish()
}

pub(super) fn price(rng: &mut Rng) -> Instance {
    let shop = Shop::draw(rng);
    let item = rng.below(shop.items.len());
    let (name, what) = (shop.name(item), rng.below(4));
    let found = &shop.items[item];
    let (fact, value) = [
        ("Price", found.price.to_string()),
        ("Maker", found.maker.to_owned()),
        ("Code", found.code.to_string()),
        ("Days to deliver", found.days.to_string()),
    ][what]
        .clone();
    let goal = rng.pick(&[
        format!("Search for \"{name}\" and report its \"{fact}\"."),
        format!("What does the shop say under \"{fact}\" for \"{name}\"?"),
        format!("Look up \"{name}\" and tell me the \"{fact}\"."),
    ]);
    let mut ways = vec![vec![format!("About {name}"), format!("{fact} {value}")]];
    if fact == "Price" {
        ways.push(vec![format!("{name} {value}")]);
    }
    Draft::new(shop, "/", goal, search_for(&name))
        .needs_fact(ways)
        .stage(format!("the page of {name} is open"), text_visible(format!("About {name}")), move |shop| shop.opened.contains(&item))
        .answer(value)
        .finish()
}

pub(super) fn later(rng: &mut Rng) -> Instance {
    let shop = Shop::draw(rng);
    let item = rng.below(shop.items.len());
    let name = shop.name(item);
    let goal = rng.pick(&[
        format!("Search for \"{name}\" and save it for later."),
        format!("Find \"{name}\" and keep it for later with \"Save for later\"."),
    ]);
    let mut plan = search_for(&name);
    plan.push(click_to_text("Save for later", format!("Kept {name}")));
    Draft::new(shop, "/", goal, plan)
        .change(format!("{name} is kept"), text_visible(format!("Kept {name}")), move |shop| shop.saved_for_later == [item])
        .guard(|shop| shop.cart.is_empty())
        .finish()
}

pub(super) fn total(rng: &mut Rng) -> Instance {
    let mut shop = Shop::draw(rng);
    let lines = rng.numbers(0, 9, 4);
    shop.cart = lines.iter().map(|&item| CartLine { item: item as usize, quantity: rng.between(1, 3) }).collect();
    let gone = shop.cart[rng.below(4)].item;
    let name = shop.name(gone);
    let left: u32 = shop.cart.iter().filter(|line| line.item != gone).map(|line| shop.items[line.item].price * line.quantity).sum();
    let goal = rng.pick(&[
        format!("Remove \"{name}\" from the cart and report the \"Total\"."),
        format!("Take \"{name}\" out of my cart. What is the \"Total\" then?"),
    ]);
    let plan = vec![click_to_url("Cart", "/cart"), click_to_text(&format!("Remove {name}"), format!("Removed {name}"))];
    Draft::new(shop, "/", goal, plan)
        .change(format!("{name} is out of the cart"), text_visible(format!("Removed {name}")), move |shop| {
            shop.cart.iter().all(|line| line.item != gone)
        })
        .guard(|shop| shop.cart.len() == 3)
        .needs_fact([vec![format!("Total {left}")]])
        .answer(left.to_string())
        .finish()
}

pub(super) fn swap(rng: &mut Rng) -> Instance {
    let mut shop = Shop::draw(rng);
    let items = rng.numbers(0, 9, 2);
    let (wanted, other) = (items[0] as usize, items[1] as usize);
    let out = rng.chance(80);
    shop.items[wanted].in_stock = !out;
    let (name, instead, quantity) = (shop.name(wanted), shop.name(other), rng.between(2, 9));
    let goal = rng.pick(&[
        format!("Put \"{quantity}\" of \"{name}\" into the cart. If it is out of stock take \"{instead}\" instead. Then open the cart."),
        format!("I need \"{quantity}\" pieces of \"{name}\" in the cart, or of \"{instead}\" where the first is out of stock. Open the cart at the end."),
    ]);
    let amount = type_text("Quantity", &quantity.to_string());
    let mut plan = search_for(&name);
    plan.extend([amount.clone(), click_to_text("Add to cart", format!("Added {quantity}")), click_to_url("Cart", "/cart")]);
    let bought = if out { other } else { wanted };
    let text = format!("Added {quantity} {}", shop.name(bought));
    // An agent that takes the other item must have seen why.
    let why = out.then(|| vec![vec![format!("About {name}"), "Out of stock".into()]]);
    Draft::new(shop, "/", goal, plan)
        .needs_facts(why)
        .rule(RevisionRule {
            cursor: CursorAt::Step(amount.text),
            when: text_visible("Out of stock"),
            steps: search_for(&instead),
            resume: Resume::Current,
        })
        .change("the right item is in the cart", text_visible(text), move |shop| shop.has_line(bought, quantity))
        .guard(|shop| shop.cart.len() == 1)
        .finish()
}

pub(super) fn order(rng: &mut Rng) -> Instance {
    let shop = Shop::draw(rng);
    let item = rng.below(PAGE_SIZE);
    let name = shop.name(item);
    let wanted = Checkout {
        name: rng.people(1).concat(),
        street: rng.pick(&STREETS).into(),
        zip: rng.digits(),
        city: CITIES[rng.below(10)].into(),
        delivery: rng.pick(&DELIVERIES).into(),
        ..Checkout::default()
    };
    let Checkout { name: person, street, zip, city, delivery, .. } = wanted.clone();
    let goal = rng.pick(&[
        format!("Order one \"{name}\" for \"{person}\", street \"{street}\", zip \"{zip}\", city \"{city}\", delivery \"{delivery}\". Report the order number."),
        format!("Buy \"{name}\". Send it to \"{person}\", \"{street}\", zip \"{zip}\", \"{city}\", by \"{delivery}\", and tell me the order number."),
    ]);
    let mut plan = vec![
        click_to_text(&name, format!("About {name}")),
        click_to_text("Add to cart", format!("Added 1 {name}")),
        click_to_url("Cart", "/cart"),
        click_to_url("Checkout", "/address"),
    ];
    plan.extend(fill_address(&wanted));
    plan.extend([tick(&delivery), click_to_url("Continue", "/review"), click_to_url("Place order", "/order")]);
    let number = shop.order_number.to_string();
    Draft::new(shop, "/", goal, plan)
        .change(format!("{name} is in the cart"), text_visible(format!("Added 1 {name}")), move |shop| shop.has_line(item, 1))
        .change("the order is placed", text_visible("Order number"), |shop| shop.order.is_some())
        .unseen_change(move |shop| shop.checkout == wanted)
        .guard(|shop| shop.order.as_ref().is_some_and(|lines| lines.len() == 1))
        .needs_fact([vec![format!("Order number {number}")]])
        .answer(number)
        .finish()
}

/// Plans the steps that fill in the address and continue.
pub(super) fn fill_address(wanted: &Checkout) -> Vec<Planned> {
    vec![
        type_text("Name", &wanted.name),
        type_text("Street", &wanted.street),
        type_text("Zip", &wanted.zip),
        crate::plan_steps::select_option("City", &wanted.city),
        click_to_url("Continue", "/delivery"),
    ]
}

pub(super) fn pick(rng: &mut Rng) -> Instance {
    let mut shop = Shop::draw(rng);
    let item = rng.below(shop.items.len());
    shop.recommended = item;
    let name = shop.name(item);
    let path = format!("/api/pick/{}", name.rsplit(' ').next().unwrap_or_default());
    let goal = rng.pick(&[
        format!("Fetch \"{path}\", search for the best pick it names, and put one into the cart."),
        format!("\"{path}\" tells the best pick. Fetch it, search for that item and add it to the cart."),
    ]);
    let mut then = search_for(&name);
    then.push(click_to_text("Add to cart", format!("Added 1 {name}")));
    Draft::new(shop, "/", goal, vec![fetch_json(&path, "best_pick")])
        .rule(RevisionRule {
            cursor: CursorAt::End,
            when: text_visible("best_pick"),
            steps: with_answer_step(then),
            resume: Resume::Nowhere,
        })
        .needs_fact([vec![format!("best_pick {name}")]])
        .stage("the best pick is known", text_visible("best_pick"), |shop| shop.api_called)
        .change(format!("{name} is in the cart"), text_visible(format!("Added 1 {name}")), move |shop| shop.has_line(item, 1))
        .guard(|shop| shop.cart.len() == 1)
        .finish()
}

pub(super) fn code(rng: &mut Rng) -> Instance {
    let shop = Shop::draw(rng);
    let item = rng.below(PAGE_SIZE);
    let name = shop.name(item);
    let path = format!("/api/voucher/{name}");
    let goal = rng.pick(&[
        format!("Add \"{name}\" to the cart. In the cart use the code that \"{path}\" gives."),
        format!("Put one \"{name}\" into the cart, open it, fetch \"{path}\" and use that code."),
    ]);
    let plan = vec![
        click_to_text(&name, format!("About {name}")),
        click_to_text("Add to cart", format!("Added 1 {name}")),
        click_to_url("Cart", "/cart"),
        fetch_json(&path, "voucher"),
        type_result("Code"),
        click_to_text("Use code", "The code was accepted"),
    ];
    let voucher = format!("voucher {}", shop.voucher);
    Draft::new(shop, "/", goal, plan)
        .needs_fact([vec![voucher]])
        .change(format!("{name} is in the cart"), text_visible(format!("Added 1 {name}")), move |shop| shop.has_line(item, 1))
        .stage("the cart is open", url_contains("/cart"), move |shop| shop.has_line(item, 1))
        .change("the code is used", text_visible("The code was accepted"), |shop| shop.used_code == shop.voucher)
        .guard(|shop| shop.cart.len() == 1)
        .finish()
}
