//! The labels of links and buttons: a plan uses the canonical label, and a site shows one of its synonyms.

use crate::seeded::fnv;

/// The canonical labels with all their wordings, the canonical one first. No wording belongs to two labels.
pub(crate) const LABELS: &[&[&str]] = &[
    &["Cart", "Basket", "Bag"],
    &["Shop", "Home", "Start"],
    &["Search", "Find", "Go"],
    &["Add to cart", "Add to basket", "Buy"],
    &["Save for later", "Keep for later", "Add to wish list"],
    &["Checkout", "Go to checkout", "Pay now"],
    &["Continue", "Next step", "Go on"],
    &["Place order", "Order now", "Confirm order"],
    &["Use code", "Redeem", "Apply code"],
    &["Reviews", "Ratings", "Opinions"],
    &["Send review", "Post review", "Publish review"],
    &["Remove", "Delete", "Drop"],
    &["Next", "Next page", "More"],
    &["Log in", "Sign in", "Enter"],
    &["Tickets", "All tickets", "Queue"],
    &["New ticket", "Add ticket", "Write a ticket"],
    &["Filter", "Show", "Update list"],
    &["Assign", "Hand over", "Set agent"],
    &["Set priority", "Change priority", "Update priority"],
    &["Send", "Post", "Add comment"],
    &["Close ticket", "Mark as closed", "Resolve"],
    &["Reopen", "Open again", "Mark as open"],
    &["Create", "Submit", "Make ticket"],
    &["People", "Staff", "Persons"],
    &["New person", "Add person", "Register person"],
    &["Save", "Save changes", "Store"],
    &["Rooms", "Room list", "All rooms"],
    &["New booking", "Book a room", "Add booking"],
    &["Book", "Reserve", "Make booking"],
    &["Apply", "Run", "Do it"],
];

/// Returns all wordings of a label. For `Remove X` these are the wordings of `Remove`, each followed by X; for an unknown label, the label
/// itself.
pub(crate) fn wordings(label: &str) -> Vec<String> {
    let known = |label: &str| LABELS.iter().find(|words| words[0] == label);
    if let Some(words) = known(label) {
        return words.iter().map(|&word| word.to_owned()).collect();
    }
    match label.split_once(' ') {
        Some(("Remove", rest)) => wordings("Remove").iter().map(|word| format!("{word} {rest}")).collect(),
        _ => vec![label.to_owned()],
    }
}

/// Returns the wording of a label that a salt chooses; it is the canonical one half of the time.
pub(crate) fn choose_wording(label: &'static str, salt: u64) -> &'static str {
    let words = LABELS.iter().find(|words| words[0] == label).copied().unwrap_or(&[]);
    let hash = fnv(&format!("{salt}{label}"));
    match (hash >> 32) % 2 {
        0 => label,
        _ => words.get((hash >> 8) as usize % words.len().max(1)).copied().unwrap_or(label),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn no_wording_belongs_to_two_labels() {
        let mut seen = std::collections::HashSet::new();
        for word in LABELS.iter().flat_map(|words| words.iter()) {
            assert!(seen.insert(*word), "{word:?} stands twice");
        }
    }

    #[test]
    fn wordings_cover_compound_labels() {
        assert_eq!(wordings("Remove Blue Mug"), ["Remove Blue Mug", "Delete Blue Mug", "Drop Blue Mug"]);
        assert_eq!(wordings("Ana Diaz"), ["Ana Diaz"]);
    }
}
