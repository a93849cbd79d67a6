//! Reduces pages for the curriculum, and finds the tokens of an action that the grammar forces.

use std::collections::HashSet;
use std::ops::Range;

use milepost_runtime::action::Naming;
use milepost_runtime::{Action, Element, Observation};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Returns the bytes of a completion that hold its element's id, if the grammar forces that id because no other element that the action could
/// name has this name. Forced ids are not trained: they are the hardest part of an action, and the model never has to choose them.
pub(super) fn forced_id(action: &Action, page: &Observation, completion: &str) -> Option<Range<usize>> {
    let target = page.element(action.target()?)?;
    let candidate = |element: &&Element| element.name == target.name && action.accepts(element, Naming::NameAndId);
    let same_name = page.elements.iter().filter(candidate).count();
    let named = Naming::NameAndId.of(target);
    let end = completion.find(&named)? + named.len();
    (same_name == 1).then(|| end - target.id.to_string().len()..end)
}

/// Returns the range of the tokens that lie within `bytes`; `ends` holds where each token ends.
pub(super) fn tokens_within(ends: &[usize], bytes: Range<usize>) -> Range<usize> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let inside: Vec<usize> = starts
        .zip(ends)
        .enumerate()
        .filter(|(_, (start, end))| *start >= bytes.start && **end <= bytes.end)
        .map(|(index, _)| index)
        .collect();
    match (inside.first(), inside.last()) {
        (Some(first), Some(last)) => *first..last + 1,
        _ => 0..0,
    }
}

/// Reduces a page to a share of its elements, and with `drop_text` also of its lines. The target of the action is always kept.
pub(super) fn reduce_page(observation: &Observation, action: &Action, share: f32, drop_text: bool, rng: &mut StdRng) -> Observation {
    let mut page = observation.clone();
    if share >= 1.0 {
        return page;
    }
    let total = page.elements.len();
    let keep = 2.0f32.max(total as f32 * share).round() as usize;
    let mut others: Vec<u32> = page.elements.iter().map(|element| element.id).filter(|id| Some(*id) != action.target()).collect();
    others.shuffle(rng);
    let kept: HashSet<u32> = others.into_iter().take(keep.saturating_sub(1)).chain(action.target()).collect();
    page.elements.retain(|element| kept.contains(&element.id));
    if drop_text {
        let marker = |line: &str| page.elements.iter().any(|element| line.contains(&format!("[#{}]", element.id)));
        let lines: Vec<&str> = observation.text.lines().filter(|line| marker(line) || rng.random_bool(f64::from(share))).collect();
        page.text = lines.join("\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(elements: &[(u32, &str, &str)]) -> Observation {
        let element =
            |(id, role, name): &(u32, &str, &str)| Element { id: *id, role: (*role).into(), name: (*name).into(), ..Element::default() };
        Observation { elements: elements.iter().map(element).collect(), ..Observation::default() }
    }

    fn forced<'a>(page: &Observation, id: u32, completion: &'a str) -> Option<&'a str> {
        forced_id(&Action::Click(id), page, completion).map(|bytes| &completion[bytes])
    }

    #[test]
    fn an_id_is_forced_if_no_other_element_has_the_same_name() {
        let page = page(&[(1, "link", "Cart"), (2, "textbox", "Cart"), (13, "link", "Home"), (14, "button", "Home")]);
        assert_eq!(forced(&page, 1, "keep\nclick \"Cart\" 1"), Some("1"));
        assert_eq!(forced(&page, 13, "click \"Home\" 13"), None);
    }

    #[test]
    fn only_whole_tokens_are_within_the_bytes() {
        assert_eq!(tokens_within(&[2, 4, 5, 6, 9], 4..6), 2..4);
        assert_eq!(tokens_within(&[2, 4, 5, 6, 9], 3..5), 2..3);
        assert_eq!(tokens_within(&[2, 9], 4..6), 0..0);
    }
}
