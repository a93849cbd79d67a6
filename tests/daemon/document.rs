//! The OpenAPI document of the daemon, which is reviewed as a snapshot file.

use std::collections::BTreeSet;

use serde_json::Value;

#[test]
fn the_document_equals_its_snapshot() {
    let document = milepost_server::router::document().to_pretty_json().unwrap();
    insta::assert_snapshot!("openapi", document);
}

/// Collects the targets of all references (`$ref`) in a part of the document.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn all_references_of_the_document_have_a_target() {
    let document = serde_json::to_value(milepost_server::router::document()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/Task"), "{found:?}");
    found.retain(|name| document.pointer(&name[1..]).is_none());
    assert!(found.is_empty(), "references without a target: {found:?}");
}
