//! The shop's pages, and the handlers of its forms.

use axum::extract::{Form, Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::state::{CartLine, DELIVERIES, PAGE_SIZE, Review, Shop};
use crate::page::{checkable, choice, esc, field, link, search};
use crate::seeded::CITIES;
use crate::site::{Shared, Site, lock};

type SharedShop = State<Shared<Shop>>;

impl Site for Shop {
    fn router(shared: Shared<Self>) -> Router {
        Router::new()
            .route("/", get(home))
            .route("/info", get(info))
            .route("/search", get(results))
            .route("/item/{id}", get(item))
            .route("/item/{id}/add", post(add))
            .route("/item/{id}/later", post(later))
            .route("/item/{id}/reviews", get(reviews).post(review))
            .route("/cart", get(cart))
            .route("/cart/remove/{id}", post(remove))
            .route("/cart/code", post(use_code))
            .route("/address", get(address).post(set_address))
            .route("/delivery", get(delivery).post(set_delivery))
            .route("/tax", get(tax).post(set_tax))
            .route("/review", get(summary).post(place))
            .route("/order", get(order))
            .route("/api/pick/{kind}", get(api_pick))
            .route("/api/voucher/{item}", get(api_voucher))
            .with_state(shared)
    }
}

impl Shop {
    fn page(&mut self, title: &str, query: &str, body: &str) -> Response {
        let style = &self.style;
        let cart = style.nav("/cart", "Cart");
        let home = style.nav("/", "Shop");
        let links = if self.reordered { [cart, home] } else { [home, cart] };
        let tools = style.get("/search", &search("Search", "q", query), "Search");
        let message = std::mem::take(&mut self.message);
        style.page(title, &links, &tools, &message, body).into_response()
    }

    fn list(&self, items: &[usize]) -> String {
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|&at| {
                let item = &self.items[at];
                vec![link(&format!("/item/{}", item.id), &item.name), item.price.to_string()]
            })
            .collect();
        self.style.rows(&["Item", "Price"], &rows)
    }

    fn not_found(&mut self) -> Response {
        (axum::http::StatusCode::NOT_FOUND, self.page("Not found", "", "<p>There is no such item.</p>")).into_response()
    }
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    q: String,
    #[serde(default)]
    page: Option<usize>,
}

async fn home(State(shop): SharedShop, Query(listing): Query<Listing>) -> Response {
    let shop = &mut *lock(&shop);
    let pages = shop.items.len().div_ceil(PAGE_SIZE);
    let page = listing.page.unwrap_or(1).clamp(1, pages);
    let shown: Vec<usize> = (0..shop.items.len()).skip((page - 1) * PAGE_SIZE).take(PAGE_SIZE).collect();
    let body = shop.list(&shown) + &shop.style.pager(page, pages, |page| format!("/?page={page}"));
    shop.page("All items", "", &body)
}

async fn info(State(shop): SharedShop) -> Response {
    lock(&shop).page("Information", "", "<p>Open every day.</p>")
}

async fn results(State(shop): SharedShop, Query(listing): Query<Listing>) -> Response {
    let shop = &mut *lock(&shop);
    let found = shop.found(&listing.q);
    let body = if found.is_empty() { "<p>Nothing was found.</p>".to_owned() } else { shop.list(&found) };
    shop.page("Results", &listing.q, &body)
}

async fn item(State(shop): SharedShop, Path(id): Path<u32>) -> Response {
    let shop = &mut *lock(&shop);
    let Some(at) = shop.by_id(id) else { return shop.not_found() };
    shop.opened.push(at);
    let (item, style) = (&shop.items[at], &shop.style);
    let mut facts = vec![
        ("Price", item.price.to_string()),
        ("Maker", item.maker.to_owned()),
        ("Code", item.code.to_string()),
        ("Days to deliver", item.days.to_string()),
    ];
    if shop.reordered {
        facts.reverse();
    }
    let buy = match item.in_stock {
        true => style.post(&format!("/item/{id}/add"), &field("Quantity", "quantity", "1"), "Add to cart"),
        false => "<p>Out of stock</p>".to_owned(),
    };
    let later = style.post(&format!("/item/{id}/later"), "", "Save for later");
    let body = format!("{}{buy}{later}<p>{}</p>", style.facts(&facts), style.nav(&format!("/item/{id}/reviews"), "Reviews"));
    let title = format!("About {}", item.name);
    shop.page(&title, "", &body)
}

#[derive(Deserialize)]
struct Quantity {
    quantity: String,
}

async fn add(State(shop): SharedShop, Path(id): Path<u32>, Form(form): Form<Quantity>) -> Redirect {
    let shop = &mut *lock(&shop);
    if let Some(item) = shop.by_id(id).filter(|&at| shop.items[at].in_stock) {
        match form.quantity.trim().parse::<u32>() {
            Ok(quantity @ 1..=99) => {
                match shop.cart.iter_mut().find(|line| line.item == item) {
                    Some(line) => line.quantity += quantity,
                    None => shop.cart.push(CartLine { item, quantity }),
                }
                shop.message = format!("Added {quantity} {}", shop.name(item));
            }
            _ => shop.message = "The quantity must be a number from 1 to 99".into(),
        }
    }
    Redirect::to(&format!("/item/{id}"))
}

async fn later(State(shop): SharedShop, Path(id): Path<u32>) -> Redirect {
    let shop = &mut *lock(&shop);
    if let Some(item) = shop.by_id(id) {
        shop.saved_for_later.push(item);
        shop.message = format!("Kept {}", shop.name(item));
    }
    Redirect::to(&format!("/item/{id}"))
}

async fn reviews(State(shop): SharedShop, Path(id): Path<u32>) -> Response {
    let shop = &mut *lock(&shop);
    let Some(at) = shop.by_id(id) else { return shop.not_found() };
    let sent: String = shop
        .reviews
        .iter()
        .filter(|review| review.item == at)
        .map(|review| format!("<p>{} stars: {}</p>", esc(&review.stars), esc(&review.text)))
        .collect();
    let (stars, text) = (choice("Stars", "stars", &["Choose", "1", "2", "3", "4", "5"], "Choose"), field("Review", "text", ""));
    let controls = if shop.reordered { text + &stars } else { stars + &text };
    let body = sent + &shop.style.post(&format!("/item/{id}/reviews"), &controls, "Send review");
    let title = format!("What people say of {}", shop.name(at));
    shop.page(&title, "", &body)
}

#[derive(Deserialize)]
struct Opinion {
    stars: String,
    text: String,
}

async fn review(State(shop): SharedShop, Path(id): Path<u32>, Form(form): Form<Opinion>) -> Redirect {
    let shop = &mut *lock(&shop);
    if let Some(item) = shop.by_id(id) {
        shop.message = format!("Review of {} sent", shop.name(item));
        shop.reviews.push(Review { item, stars: form.stars, text: form.text });
    }
    Redirect::to(&format!("/item/{id}/reviews"))
}

async fn cart(State(shop): SharedShop) -> Response {
    let shop = &mut *lock(&shop);
    if shop.cart.is_empty() {
        return shop.page("Your items", "", "<p>Nothing here yet.</p>");
    }
    let style = &shop.style;
    let rows: Vec<Vec<String>> = shop
        .cart
        .iter()
        .map(|line| {
            let item = &shop.items[line.item];
            let remove = format!("{} {}", style.label("Remove"), item.name);
            let form = format!("<form method=\"post\" action=\"/cart/remove/{}\"><button>{}</button></form>", item.id, esc(&remove));
            vec![esc(&item.name), line.quantity.to_string(), (item.price * line.quantity).to_string(), form]
        })
        .collect();
    let code = style.post("/cart/code", &field("Code", "code", &shop.used_code), "Use code");
    let table = style.rows(&["Item", "Quantity", "Price", ""], &rows);
    let body = format!("{table}<p>Total: {}</p>{code}<p>{}</p>", shop.total(), style.nav("/address", "Checkout"));
    shop.page("Your items", "", &body)
}

async fn remove(State(shop): SharedShop, Path(id): Path<u32>) -> Redirect {
    let shop = &mut *lock(&shop);
    if let Some(item) = shop.by_id(id) {
        shop.cart.retain(|line| line.item != item);
        shop.message = format!("Removed {}", shop.name(item));
    }
    Redirect::to("/cart")
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

async fn use_code(State(shop): SharedShop, Form(form): Form<Code>) -> Redirect {
    let shop = &mut *lock(&shop);
    if form.code.trim() == shop.voucher {
        shop.used_code = form.code.trim().into();
        shop.message = "The code was accepted".into();
    } else {
        shop.message = "The code is not known".into();
    }
    Redirect::to("/cart")
}

#[derive(Deserialize)]
struct Address {
    name: String,
    street: String,
    zip: String,
    city: String,
}

async fn address(State(shop): SharedShop) -> Response {
    let shop = &mut *lock(&shop);
    let known = &shop.checkout;
    let mut cities = vec!["Choose"];
    cities.extend(CITIES.iter().take(10));
    let mut fields = [
        field("Name", "name", &known.name),
        field("Street", "street", &known.street),
        field("Zip", "zip", &known.zip),
        choice("City", "city", &cities, &known.city),
    ];
    if shop.reordered {
        fields.rotate_left(1);
    }
    let body = shop.style.post("/address", &fields.concat(), "Continue");
    shop.page("Where to", "", &body)
}

async fn set_address(State(shop): SharedShop, Form(form): Form<Address>) -> Redirect {
    let shop = &mut *lock(&shop);
    if [&form.name, &form.street].iter().any(|text| text.trim().is_empty()) || form.city == "Choose" {
        shop.message = "Please fill in name, street and city".into();
        return Redirect::to("/address");
    }
    let known = &mut shop.checkout;
    (known.name, known.street, known.zip, known.city) =
        (form.name.trim().into(), form.street.trim().into(), form.zip.trim().into(), form.city);
    Redirect::to("/delivery")
}

async fn delivery(State(shop): SharedShop) -> Response {
    let shop = &mut *lock(&shop);
    let mut ways: Vec<String> = DELIVERIES.iter().map(|way| checkable("radio", way, "way", way, &shop.checkout.delivery)).collect();
    if shop.reordered {
        ways.reverse();
    }
    let gift = checkable("checkbox", "Gift wrap", "gift", "yes", if shop.checkout.gift { "yes" } else { "" });
    let body = shop.style.post("/delivery", &(ways.concat() + &gift), "Continue");
    shop.page("How to send it", "", &body)
}

#[derive(Deserialize)]
struct Delivery {
    #[serde(default)]
    way: String,
    #[serde(default)]
    gift: String,
}

async fn set_delivery(State(shop): SharedShop, Form(form): Form<Delivery>) -> Redirect {
    let shop = &mut *lock(&shop);
    if form.way.is_empty() {
        shop.message = "Please choose one".into();
        return Redirect::to("/delivery");
    }
    (shop.checkout.delivery, shop.checkout.gift) = (form.way, form.gift == "yes");
    Redirect::to(if shop.asks_tax_number { "/tax" } else { "/review" })
}

async fn tax(State(shop): SharedShop) -> Response {
    let shop = &mut *lock(&shop);
    let body =
        "<p>We need one more thing.</p>".to_owned() + &shop.style.post("/tax", &field("Tax number", "tax", &shop.checkout.tax), "Continue");
    shop.page("Tax", "", &body)
}

#[derive(Deserialize)]
struct Tax {
    tax: String,
}

async fn set_tax(State(shop): SharedShop, Form(form): Form<Tax>) -> Redirect {
    let shop = &mut *lock(&shop);
    shop.checkout.tax = form.tax.trim().into();
    Redirect::to(if shop.checkout.tax.is_empty() { "/tax" } else { "/review" })
}

async fn summary(State(shop): SharedShop) -> Response {
    let shop = &mut *lock(&shop);
    let known = &shop.checkout;
    let facts = [
        ("Name", known.name.clone()),
        ("Street", known.street.clone()),
        ("City", format!("{} {}", known.zip, known.city)),
        ("Delivery", known.delivery.clone()),
        ("Items", shop.cart.len().to_string()),
        ("Total", shop.total().to_string()),
    ];
    let body = shop.style.facts(&facts) + &shop.style.post("/review", "", "Place order");
    shop.page("Is this right?", "", &body)
}

async fn place(State(shop): SharedShop) -> Redirect {
    let shop = &mut *lock(&shop);
    if shop.cart.is_empty() || shop.checkout.delivery.is_empty() || (shop.asks_tax_number && shop.checkout.tax.is_empty()) {
        return Redirect::to("/cart");
    }
    shop.order = Some(std::mem::take(&mut shop.cart));
    Redirect::to("/order")
}

async fn order(State(shop): SharedShop) -> Response {
    let shop = &mut *lock(&shop);
    if shop.order.is_none() {
        return shop.page("No order", "", "<p>Nothing was ordered yet.</p>");
    }
    let facts = [("Order number", shop.order_number.to_string()), ("Sent to", shop.checkout.city.clone())];
    let body = shop.style.facts(&facts);
    shop.page("Thank you", "", &body)
}

async fn api_pick(State(shop): SharedShop, Path(_kind): Path<String>) -> Json<serde_json::Value> {
    let shop = &mut *lock(&shop);
    shop.api_called = true;
    Json(json!({ "best_pick": shop.name(shop.recommended) }))
}

async fn api_voucher(State(shop): SharedShop, Path(_item): Path<String>) -> Json<serde_json::Value> {
    let shop = &mut *lock(&shop);
    shop.api_called = true;
    Json(json!({ "voucher": shop.voucher }))
}
