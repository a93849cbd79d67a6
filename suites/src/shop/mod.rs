//! The shop: search, product pages, reviews, cart, and a checkout over several pages.

mod pages;
mod tasks;
mod tasks_long;

use crate::page::Style;
use crate::seeded::{COLOURS, MAKERS, Rng, THINGS};
use crate::template::{Level, SiteKind, Template};

/// Tasks that play in the shop.
pub(crate) const TEMPLATES: &[Template] = &[
    Template::new("shop_add", SiteKind::Shop, Level::Easy, tasks::add),
    Template::new("shop_price", SiteKind::Shop, Level::Easy, tasks::price).answers(),
    Template::new("shop_later", SiteKind::Shop, Level::Easy, tasks::later).held_out(),
    Template::new("shop_total", SiteKind::Shop, Level::Easy, tasks::total).answers(),
    Template::new("shop_swap", SiteKind::Shop, Level::Medium, tasks::swap).revises(),
    Template::new("shop_order", SiteKind::Shop, Level::Medium, tasks::order).answers(),
    Template::new("shop_pick", SiteKind::Shop, Level::Medium, tasks::pick).revises().fetches(),
    Template::new("shop_code", SiteKind::Shop, Level::Medium, tasks::code).fetches(),
    Template::new("shop_order_many", SiteKind::Shop, Level::Long, tasks_long::order_many).revises(),
    Template::new("shop_reviews", SiteKind::Shop, Level::Long, tasks_long::reviews).held_out(),
];

/// Items on one page of a list.
const PAGE: usize = 6;
/// Ways of delivery.
const DELIVERIES: [&str; 3] = ["Standard", "Express", "Pick up"];

/// A product.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) maker: &'static str,
    pub(crate) price: u32,
    pub(crate) days: u32,
    pub(crate) code: u32,
    pub(crate) in_stock: bool,
}

/// So many of an item (its index).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) item: usize,
    pub(crate) quantity: u32,
}

/// What the checkout asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkout {
    pub(crate) name: String,
    pub(crate) street: String,
    pub(crate) zip: String,
    pub(crate) city: String,
    pub(crate) delivery: String,
    pub(crate) gift: bool,
    pub(crate) tax: String,
}

/// A review that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) item: usize,
    pub(crate) stars: String,
    pub(crate) text: String,
}

/// The shop's state.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) style: Style,
    pub(crate) items: Vec<Item>,
    pub(crate) cart: Vec<Line>,
    pub(crate) later: Vec<usize>,
    pub(crate) reviews: Vec<Review>,
    pub(crate) checkout: Checkout,
    /// Whether the checkout asks for a tax number.
    pub(crate) asks_tax: bool,
    /// What was ordered, once it was.
    pub(crate) order: Option<Vec<Line>>,
    pub(crate) order_number: u32,
    /// The item (index) that `/api/pick/…` recommends.
    pub(crate) picked: usize,
    /// The code that `/api/voucher/…` gives out.
    pub(crate) voucher: String,
    pub(crate) used_code: String,
    /// Items (indices) whose page was opened.
    pub(crate) opened: Vec<usize>,
    /// Whether an API was asked.
    pub(crate) asked: bool,
    pub(crate) message: String,
    /// Order of the fields in forms and facts.
    pub(crate) turned: bool,
}

impl Shop {
    /// Ten items that share their words, so that a search finds more than one.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let (colours, things) = (rng.sample(&COLOURS, 4), rng.sample(&THINGS, 4));
        let names: Vec<String> = colours.iter().flat_map(|colour| things.iter().map(move |thing| format!("{colour} {thing}"))).collect();
        let (ids, codes) = (rng.numbers(10, 99, 10), rng.numbers(1000, 9999, 10));
        let items = rng
            .sample(&names, 10)
            .into_iter()
            .enumerate()
            .map(|(at, name)| Item {
                id: ids[at],
                name,
                maker: rng.pick(&MAKERS),
                price: rng.between(2, 99),
                days: rng.between(2, 9),
                code: codes[at],
                in_stock: true,
            })
            .collect();
        Self {
            style: Style::draw(rng, "Shop"),
            items,
            cart: Vec::new(),
            later: Vec::new(),
            reviews: Vec::new(),
            checkout: Checkout::default(),
            asks_tax: false,
            order: None,
            order_number: rng.between(1000, 9999),
            picked: 0,
            voucher: rng.digits(),
            used_code: String::new(),
            opened: Vec::new(),
            asked: false,
            message: String::new(),
            turned: rng.chance(50),
        }
    }

    /// The name of an item.
    pub(crate) fn name(&self, item: usize) -> String {
        self.items[item].name.clone()
    }

    /// So many of the item in the cart, or ordered already.
    pub(crate) fn taken(&self, item: usize, quantity: u32) -> bool {
        self.order.as_ref().unwrap_or(&self.cart).contains(&Line { item, quantity })
    }

    /// What the cart costs.
    pub(crate) fn total(&self) -> u32 {
        self.cart.iter().map(|line| self.items[line.item].price * line.quantity).sum()
    }

    /// The indices of at most a page of items that match the words of a query best, in the shop's order.
    fn found(&self, query: &str) -> Vec<usize> {
        let query = query.to_lowercase();
        let score =
            |item: &Item| item.name.to_lowercase().split(' ').filter(|word| query.split_whitespace().any(|asked| asked == *word)).count();
        let mut hits: Vec<(usize, usize)> =
            self.items.iter().enumerate().map(|(at, item)| (score(item), at)).filter(|(score, _)| *score > 0).collect();
        hits.sort_by_key(|(score, at)| (std::cmp::Reverse(*score), *at));
        hits.truncate(PAGE);
        let mut found: Vec<usize> = hits.into_iter().map(|(_, at)| at).collect();
        found.sort_unstable();
        found
    }

    fn by_id(&self, id: u32) -> Option<usize> {
        self.items.iter().position(|item| item.id == id)
    }
}
