//! The grammar of a turn's action: only elements, options, action kinds and tools that exist in this turn can be decoded.

use super::forms::{AnswerText, Available, Naming, ToolForm};
use super::rules::Rules;
use super::spec::{ActionSpec, Offer};
use super::table::ActionKind;
use crate::check::Check;
use crate::observation::Observation;
use crate::text::LITERAL_RULE;

/// The action kinds, tools and forms that the grammar of a turn may contain, besides the elements of the page.
#[derive(Clone, Debug, Default)]
pub struct ActionForms<'a> {
    /// Kinds that the capability allows.
    pub kinds: &'a [ActionKind],
    /// Tools that exist.
    pub tools: &'a [ToolForm],
    /// Who writes the answer's text.
    pub answer_text: AnswerText,
    /// How an action names its element.
    pub naming: Naming,
}

/// Returns the Lark rules for the rule `action` on this page: only ids, options, kinds and tools that exist now can be decoded.
pub fn action_rules(observation: &Observation, forms: &ActionForms<'_>) -> String {
    let available = Available { page: observation, tools: forms.tools, answer_text: forms.answer_text, naming: forms.naming };
    let allowed = ActionKind::ALL.iter().filter(|kind| forms.kinds.contains(kind)).map(|kind| kind.spec());
    let (of_setup, of_page): (Vec<&ActionSpec>, Vec<&ActionSpec>) = allowed.partition(|spec| matches!(spec.offer, Offer::Setup(_)));
    let mut rules = Rules::default();
    for spec in of_page.into_iter().chain(of_setup) {
        spec.add_to(&mut rules, &available);
    }
    rules.lark()
}

/// Returns the rules that every grammar of this crate shares: literals and checks.
pub fn shared_rules() -> String {
    format!("{LITERAL_RULE}\n{}", Check::grammar_rules())
}
