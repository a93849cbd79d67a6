//! The API's document: reviewed as a file.

use std::collections::BTreeSet;

use serde_json::Value;

#[test]
fn the_document_is_as_reviewed() {
    let document = milepost::serve::router::document().to_pretty_json().unwrap();
    insta::assert_snapshot!("openapi", document);
}

/// Every schema that the document names.
fn named<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| named(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| named(value, found)),
        _ => {}
    }
}

#[test]
fn what_the_document_names_it_holds() {
    let document = serde_json::to_value(milepost::serve::router::document()).unwrap();
    let mut found = BTreeSet::new();
    named(&document, &mut found);
    assert!(found.contains("#/components/schemas/Task"), "{found:?}");
    found.retain(|name| document.pointer(&name[1..]).is_none());
    assert!(found.is_empty(), "the document names what it does not hold: {found:?}");
}
