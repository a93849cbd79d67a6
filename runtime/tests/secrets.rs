//! Secrets: they are typed on their origin only, and hidden wherever a page, a tool or an error repeats them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use milepost_runtime::{Element, Observation, Secrets};
use url::Url;

#[test]
fn a_secret_is_typed_on_its_origin_only_and_scrubbed_everywhere() {
    let mut secrets = Secrets::default();
    let home = Url::parse("https://desk.example.org/login").unwrap();
    secrets.add("password", "hunter22", &home);
    assert_eq!(secrets.reveal("{{secret:password}}!", &home).unwrap(), "hunter22!");
    assert!(secrets.reveal("{{secret:password}}", &Url::parse("https://evil.io/").unwrap()).is_err());
    assert!(secrets.reveal("{{secret:other}}", &home).is_err());
    assert_eq!(secrets.scrub("you typed hunter22"), "you typed {{secret:password}}");
    assert!(!format!("{secrets:?}").contains("hunter22"));
}

#[test]
fn a_secret_is_scrubbed_however_it_is_written() {
    let mut secrets = Secrets::default();
    let home = Url::parse("https://desk.example.org/login").unwrap();
    secrets.add("long", r#"p&ss "w/rd!"#, &home);
    secrets.add("part", "p&ss", &home);
    for text in [
        r#"p&ss "w/rd!"#,
        r#"p&ss \"w/rd!"#,
        r#"p&amp;ss "w/rd!"#,
        "p&amp;ss &quot;w/rd!",
        "p%26ss+%22w%2Frd%21",
        "p%26ss%20%22w%2Frd%21",
        "p%26ss%20%22w%2Frd!",
    ] {
        assert_eq!(secrets.scrub(&format!("é{text}é")), "é{{secret:long}}é", "{text}");
    }
    assert_eq!(secrets.scrub("p&ss p&s"), "{{secret:part}} p&s");
}

#[test]
fn a_secret_that_was_cut_is_not_shown_in_part() {
    let mut secrets = Secrets::default();
    secrets.add("password", "hunter22", &Url::parse("https://desk.example.org/login").unwrap());
    let long = "x".repeat(300);
    let element = |id, name: &str, value: &str| Element { id, name: name.into(), value: Some(value.into()), ..Element::default() };
    for (name, value, cut, shown) in [
        (format!("{long}hunt"), "", true, (format!("{long}{{{{secret:password}}}}"), "")),
        (format!("{long}hunt"), "", false, (format!("{long}hunt"), "")),
        (format!("{long}hun"), "", true, (format!("{long}hun"), "")),
        ("to hunt".into(), "to hunt", true, ("to hunt".into(), "to hunt")),
    ] {
        let mut page = Observation { elements: vec![element(1, &name, value)], truncated: cut, ..Observation::default() };
        secrets.scrub_page(&mut page, &HashSet::new());
        assert_eq!((page.elements[0].name.clone(), page.elements[0].value.as_deref().unwrap()), shown);
    }
    // Key presses removed the end of a typed value; no secret was typed into the second element.
    for (value, shown) in [
        ("hunter2", "{{secret:password}}"),
        ("h", "{{secret:password}}"),
        ("me:hunte", "me:{{secret:password}}"),
        ("north", "north"),
        ("", ""),
    ] {
        let mut page = Observation { elements: vec![element(7, "", value), element(8, "", value)], ..Observation::default() };
        secrets.scrub_page(&mut page, &HashSet::from([7]));
        let values: Vec<_> = page.elements.iter().map(|element| element.value.as_deref().unwrap()).collect();
        assert_eq!(values, [shown, value]);
    }
}

#[test]
fn a_secret_that_could_not_be_hidden_is_never_typed() {
    let mut secrets = Secrets::default();
    let home = Url::parse("https://desk.example.org/login").unwrap();
    for (value, typed) in [("", false), ("123", false), ("1234", true)] {
        secrets.add("pin", value, &home);
        match secrets.reveal("{{secret:pin}}", &home) {
            Ok(text) => assert!(typed && text == value, "{value}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!typed && said.contains("\"pin\"") && said.contains("longer") && !said.contains("123"), "{said}");
            }
        }
        assert_eq!(Secrets::can_be_hidden("pin", value).is_ok(), typed);
    }
    secrets.add("admin", "admin", &home);
    let scrubbed = secrets.scrub("user admin");
    assert_eq!((scrubbed.as_str(), secrets.scrub(&scrubbed).as_str()), ("user {{secret:admin}}", "user {{secret:admin}}"));
    secrets.add("word", "hunter22", &home);
    assert_eq!(secrets.scrub("{{secret:hunter22}}"), "{{secret:{{secret:word}}}}", "no page hides a value in a placeholder");
    secrets.add("pin", "12", &home);
    assert_eq!(secrets.scrub("12 of 123 pages"), "12 of 123 pages");
}
