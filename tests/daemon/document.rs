//! The API's document: reviewed as a file.

#[test]
fn the_document_is_as_reviewed() {
    let document = milepost::serve::router::document().to_pretty_json().unwrap();
    insta::assert_snapshot!("openapi", document);
}
