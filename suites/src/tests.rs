//! Tests of all templates together.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use milepost_runtime::{Check, Split};
use tower::ServiceExt;

use crate::plan_steps::Intent;
use crate::{Instance, Level, SiteKind, Template, bundled, seeds, split_of, template};

async fn get(instance: &Instance, path: &str) -> (StatusCode, Option<String>, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = instance.router().oneshot(request).await.unwrap();
    let location = response.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, location, String::from_utf8(body.to_vec()).unwrap())
}

fn plan_text(instance: &Instance) -> String {
    instance.oracle().first_plan().iter().map(|step| format!("{step}\n")).collect()
}

fn count(fits: impl Fn(&Template) -> bool) -> usize {
    bundled().iter().filter(|template| fits(template)).count()
}

#[test]
fn there_are_enough_templates_of_every_kind() {
    assert!(bundled().len() >= 24);
    for level in Level::ALL {
        assert_eq!(count(|template| template.level == level && template.held_out), 2, "{}", level.name());
        assert!(count(|template| template.level == level && !template.held_out) >= 6, "{}", level.name());
    }
    for site in SiteKind::ALL {
        assert!(count(|template| template.site == site) >= 8, "{}", site.name());
    }
    assert!(count(|template| template.revises && !template.held_out) >= 6);
    assert!(count(|template| template.answers && !template.held_out) >= 6);
    assert!(count(|template| template.fetches && !template.held_out) >= 3);
    let ids: std::collections::HashSet<_> = bundled().iter().map(|template| template.id).collect();
    assert_eq!(ids.len(), bundled().len());
}

#[test]
fn plans_have_the_length_of_their_level() {
    let mut over_thirty = 0;
    for template in bundled() {
        let (mut least, mut most) = (usize::MAX, 0);
        for seed in 0..20 {
            let instance = template.instantiate(seed);
            // Each step is one action, except that signing in takes two and the closing answer none.
            let plan = plan_text(&instance);
            let planned = plan.lines().count() - 1 + plan.matches(" and click ").count();
            (least, most) = (least.min(planned), most.max(planned));
        }
        assert!(most <= *template.level.actions().end(), "{} plans {most} actions", template.id);
        if !template.revises {
            assert!(template.level.actions().contains(&least), "{} plans {least} actions", template.id);
        }
        over_thirty += usize::from(least > 30 || (template.revises && least == 30));
    }
    assert!(over_thirty >= 4, "{over_thirty} templates have more than 30 actions");
}

#[test]
fn goals_are_short_and_steps_are_uniform() {
    for template in bundled() {
        for seed in [0, 1, 2, 9_000, 10_000] {
            let instance = template.instantiate(seed);
            let words = instance.goal().split_whitespace().count();
            assert!(words <= if template.level == Level::Long { 150 } else { 60 }, "{} has {words} words", template.id);
            let oracle = instance.oracle();
            let revised = oracle.rules.iter().flat_map(|rule| &rule.steps);
            for step in oracle.first_plan().iter().chain(revised) {
                assert!(!step.text.contains(['=', '\n']), "{:?}", step.text);
                assert!(Intent::parse(&step.text).is_ok(), "{:?}", step.text);
                let check = step.check.clone().unwrap();
                assert_eq!(Check::parse(&check.to_string()).unwrap(), check);
            }
            assert_eq!(oracle.first_plan().last().unwrap().text, "answer");
            assert_eq!(instance.milestones().len(), instance.truths().len());
            assert!(!instance.milestones().is_empty());
        }
    }
}

#[tokio::test]
async fn a_seed_always_names_the_same_instance() {
    for template in bundled() {
        let (one, same, other) = (template.instantiate(7), template.instantiate(7), template.instantiate(8));
        assert_eq!((one.goal(), plan_text(&one)), (same.goal(), plan_text(&same)));
        assert_eq!(get(&one, one.start_path()).await, get(&same, same.start_path()).await);
        assert_ne!(get(&one, one.start_path()).await.2, get(&other, other.start_path()).await.2, "{}", template.id);
        assert!(one.goal() != other.goal() || plan_text(&one) != plan_text(&other), "{}", template.id);
    }
}

#[test]
fn an_instance_never_changes() {
    assert_eq!(template("shop_add").unwrap().instantiate(0).goal(), "Put \"Gold Knife\" into the cart.");
}

#[tokio::test]
async fn nothing_is_solved_before_it_is_done() {
    for template in bundled() {
        let instance = template.instantiate(3);
        let (status, _, page) = get(&instance, instance.start_path()).await;
        assert_eq!(status, StatusCode::OK, "{}", template.id);
        assert!(page.contains("<main>"), "{}", template.id);
        assert!(!instance.success(instance.expected_answer().as_deref()), "{}", template.id);
        assert!(!instance.truths().contains(&true), "{}", template.id);
        assert_eq!(template.answers, instance.expected_answer().is_some(), "{}", template.id);
        assert_eq!(template.fetches, plan_text(&instance).contains("fetch "), "{}", template.id);
    }
}

#[tokio::test]
async fn the_desk_asks_for_a_login() {
    let instance = template("desk_assign").unwrap().instantiate(0);
    assert_eq!(get(&instance, "/tickets").await.1.as_deref(), Some("/login"));
    let (_, value) = instance.secrets()[0].clone();
    assert!(!get(&instance, "/login").await.2.contains(&value));
    let open = template("desk_close").unwrap().instantiate(0);
    assert_eq!(get(&open, "/tickets").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_taken_port_is_one_clear_error() {
    let instance = template("shop_add").unwrap().instantiate(0);
    let served = instance.serve().await.unwrap();
    let port = served.url.port().unwrap();
    let error = instance.serve_on(port).await.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("another port"), "{error}");
    let task = instance.task(&served.url).unwrap();
    assert_eq!(task.capability.hosts, [format!("127.0.0.1:{port}")]);
}

#[test]
fn splits_do_not_overlap() {
    let splits = [0, 8_999, 9_000, 9_999, 10_000, 123_456].map(split_of);
    assert_eq!(splits, [Split::Train, Split::Train, Split::Validation, Split::Validation, Split::Test, Split::Test]);
    for split in [Split::Train, Split::Validation, Split::Test] {
        assert_eq!(split_of(seeds(split).start), split);
    }
}

#[test]
fn levels_and_sites_are_read_by_name() {
    for level in Level::ALL {
        assert_eq!(level.name().parse::<Level>().unwrap(), level);
    }
    for site in SiteKind::ALL {
        assert_eq!(site.name().parse::<SiteKind>().unwrap(), site);
    }
    assert!("hard".parse::<Level>().unwrap_err().to_string().contains("easy, medium or long"));
}

async fn post(instance: &Instance, path: &str, form: &str) {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(Body::from(form.to_owned()));
    assert!(instance.router().oneshot(request.unwrap()).await.unwrap().status().is_redirection());
}

/// Finds an instance of the template whose goal contains this text.
fn with_goal(id: &str, text: &str) -> Instance {
    (0..99).map(|seed| template(id).unwrap().instantiate(seed)).find(|instance| instance.goal().contains(text)).unwrap()
}

#[tokio::test]
async fn a_fact_may_be_read_on_any_page_that_tells_it() {
    // Prices are shown in lists too, makers only on the item's own page.
    for (fact, listed) in [("\"Price\"", true), ("\"Maker\"", false)] {
        let instance = with_goal("shop_price", fact);
        assert!(!instance.complete());
        for page in ["/", "/?page=2"] {
            get(&instance, page).await;
        }
        assert_eq!(instance.complete(), listed, "{fact}");
        for id in 10..100 {
            get(&instance, &format!("/item/{id}")).await;
        }
        assert!(instance.complete(), "{fact}");
    }
}

#[tokio::test]
async fn a_change_without_the_fact_it_needs_is_a_guess() {
    let instance = template("shop_code").unwrap().instantiate(0);
    let copy = instance.fresh_copy().unwrap();
    let (_, _, told) = get(&copy, "/api/voucher/x").await;
    let code: String = told.chars().filter(char::is_ascii_digit).collect();
    let home = get(&instance, "/").await.2;
    let name = instance.goal().split('"').nth(1).unwrap();
    let items: Vec<&str> = home.split("/item/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let (rows, _) = home.split_once(name).unwrap();
    let item = items[rows.matches("/item/").count() - 1];
    let other = items.iter().find(|other| **other != item).unwrap();
    post(&instance, &format!("/item/{item}/add"), "quantity=1").await;
    post(&instance, "/cart/code", &format!("code={code}")).await;
    assert!(instance.success(None) && !instance.complete());
    get(&instance, "/api/voucher/x").await;
    assert!(instance.complete());
    // A change beyond the goal does not affect completeness.
    post(&instance, &format!("/item/{other}/add"), "quantity=1").await;
    assert!(!instance.success(None) && instance.complete());
}
