//! The shop: search, product pages, reviews, cart, and a checkout over several pages.

mod pages;
mod state;
mod tasks;
mod tasks_long;

use crate::template::{Level, SiteKind, Template};

/// Templates of the tasks in the shop.
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
