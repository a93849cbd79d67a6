//! The state of a shop.

use crate::page::Style;
use crate::seeded::{COLOURS, MAKERS, Rng, THINGS};

/// The number of items on one page of a list.
pub(super) const PAGE_SIZE: usize = 6;
/// The ways of delivery.
pub(super) const DELIVERIES: [&str; 3] = ["Standard", "Express", "Pick up"];

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

/// A quantity of one item (its index).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CartLine {
    pub(crate) item: usize,
    pub(crate) quantity: u32,
}

/// The data that the checkout asks for.
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
    pub(crate) cart: Vec<CartLine>,
    pub(crate) saved_for_later: Vec<usize>,
    pub(crate) reviews: Vec<Review>,
    pub(crate) checkout: Checkout,
    /// Whether the checkout asks for a tax number.
    pub(crate) asks_tax_number: bool,
    /// The lines of the order, once it is placed.
    pub(crate) order: Option<Vec<CartLine>>,
    pub(crate) order_number: u32,
    /// The item (its index) that `/api/pick/…` recommends.
    pub(crate) recommended: usize,
    /// The code that `/api/voucher/…` returns.
    pub(crate) voucher: String,
    pub(crate) used_code: String,
    /// The items (their indices) whose pages were opened, in order.
    pub(crate) opened: Vec<usize>,
    /// Whether one of the APIs was called.
    pub(crate) api_called: bool,
    /// The message that the next page shows.
    pub(crate) message: String,
    /// Whether fields, facts and links are shown in another order.
    pub(crate) reordered: bool,
}

impl Shop {
    /// Draws a shop with ten items whose names share their words, so that a search finds more than one.
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
            saved_for_later: Vec::new(),
            reviews: Vec::new(),
            checkout: Checkout::default(),
            asks_tax_number: false,
            order: None,
            order_number: rng.between(1000, 9999),
            recommended: 0,
            voucher: rng.digits(),
            used_code: String::new(),
            opened: Vec::new(),
            api_called: false,
            message: String::new(),
            reordered: rng.chance(50),
        }
    }

    /// Returns the name of an item.
    pub(crate) fn name(&self, item: usize) -> String {
        self.items[item].name.clone()
    }

    /// Returns whether this quantity of the item is in the cart, or in the order once it is placed.
    pub(crate) fn has_line(&self, item: usize, quantity: u32) -> bool {
        self.order.as_ref().unwrap_or(&self.cart).contains(&CartLine { item, quantity })
    }

    /// Returns the price of the cart.
    pub(crate) fn total(&self) -> u32 {
        self.cart.iter().map(|line| self.items[line.item].price * line.quantity).sum()
    }

    /// Returns the indices of the items that match the words of a query best, at most one page of them, in the shop's order.
    pub(super) fn found(&self, query: &str) -> Vec<usize> {
        let query = query.to_lowercase();
        let score =
            |item: &Item| item.name.to_lowercase().split(' ').filter(|word| query.split_whitespace().any(|asked| asked == *word)).count();
        let mut hits: Vec<(usize, usize)> =
            self.items.iter().enumerate().map(|(at, item)| (score(item), at)).filter(|(score, _)| *score > 0).collect();
        hits.sort_by_key(|(score, at)| (std::cmp::Reverse(*score), *at));
        hits.truncate(PAGE_SIZE);
        let mut found: Vec<usize> = hits.into_iter().map(|(_, at)| at).collect();
        found.sort_unstable();
        found
    }

    /// Returns the index of the item with this id.
    pub(super) fn by_id(&self, id: u32) -> Option<usize> {
        self.items.iter().position(|item| item.id == id)
    }
}
