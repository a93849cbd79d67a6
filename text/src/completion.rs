//! Finds a short completion that a grammar accepts, for a call whose token budget runs out in the middle of a sentence.

use crate::mask::BitMask;
use crate::tokenizer::Tokenizer;

/// How many random completions are attempted; the first attempt nearly always succeeds.
const ATTEMPTS: u64 = 256;
/// If more tokens than this are allowed, the parser is inside free text rather than between the grammar's fixed words.
const FREE_TEXT: usize = 96;

/// The parser of a grammar, at some position in a completion.
pub(crate) trait Parser: Clone {
    /// Writes the tokens that may follow to `out`; `None` if the parser fails.
    fn allowed(&mut self, out: &mut BitMask) -> Option<()>;
    /// Consumes a token; `None` if it is not allowed.
    fn advance(&mut self, token: u32) -> Option<()>;
    /// Returns the end token's id.
    fn end_id(&self) -> u32;
}

/// Facts about the vocabulary that guide the search.
pub(crate) struct VocabularyHints {
    /// The length of each token in bytes.
    lengths: Vec<u16>,
    /// Tokens that can close something: those made only of quotes, brackets, arrows and line ends, and the word `end` that closes a plan.
    closers: Vec<u32>,
}

impl VocabularyHints {
    /// Collects the facts about a tokenizer's vocabulary.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let bytes = |id: &u32| tokenizer.token_bytes(*id);
        let ids = 0..tokenizer.vocab_size() as u32;
        let lengths = ids.clone().map(|id| bytes(&id).len() as u16).collect();
        let closes = |bytes: &[u8]| bytes == b"end" || (!bytes.is_empty() && bytes.iter().all(|byte| b"\" \n=>}]".contains(byte)));
        let closers = ids.filter(|id| closes(bytes(id))).collect();
        Self { lengths, closers }
    }
}

/// Attempts random completions that prefer closing tokens, and returns the first that reaches the end token within `budget` tokens.
pub(crate) fn search<P: Parser>(parser: &P, hints: &VocabularyHints, budget: usize, seed: u64) -> Option<Vec<u32>> {
    (0..ATTEMPTS).find_map(|attempt| {
        let mut random = SplitMix(seed ^ attempt.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        attempt_completion(parser.clone(), hints, budget, &mut random)
    })
}

/// Makes one random completion; `None` if it does not reach the end token within `budget` tokens.
fn attempt_completion<P: Parser>(mut parser: P, hints: &VocabularyHints, budget: usize, random: &mut SplitMix) -> Option<Vec<u32>> {
    let (mut path, mut mask) = (Vec::new(), BitMask::default());
    while path.len() < budget {
        parser.allowed(&mut mask)?;
        if mask.get(parser.end_id()) {
            path.push(parser.end_id());
            return Some(path);
        }
        let token = choose(&mask, hints, random)?;
        parser.advance(token)?;
        path.push(token);
    }
    None
}

/// Chooses the next token: inside free text a closing token three times out of four, between fixed words the longest token every other
/// time.
fn choose(mask: &BitMask, hints: &VocabularyHints, random: &mut SplitMix) -> Option<u32> {
    let count = mask.count();
    if count > FREE_TEXT && random.below(4) > 0 {
        let closers: Vec<u32> = hints.closers.iter().copied().filter(|id| mask.get(*id)).collect();
        if !closers.is_empty() {
            return Some(closers[random.below(closers.len())]);
        }
    }
    if count <= FREE_TEXT && random.below(2) == 0 {
        return mask.ids().max_by_key(|id| hints.lengths[*id as usize]);
    }
    mask.ids().nth(random.below(count.max(1)))
}

/// The SplitMix64 generator (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    /// Draws a number from 0 up to but not including `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
