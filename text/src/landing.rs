//! Finding a short way to the end of a sentence when a completion's budget runs out.

use crate::grammar::GrammarMask;
use crate::mask::BitMask;
use crate::tokenizer::Tokenizer;

/// Walks tried before giving up; nearly all first walks arrive.
const WALKS: u64 = 256;
/// With so many tokens allowed the place is inside free text, not between fixed words.
const FREE_TEXT: usize = 96;

/// What the search knows of the vocabulary.
pub(crate) struct Hints {
    /// Bytes of each token.
    lengths: Vec<u16>,
    /// Tokens that may close something: of quotes, brackets, arrows and line ends only, and the word `end` that closes a plan.
    closers: Vec<u32>,
}

impl Hints {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let bytes = |id: &u32| tokenizer.token_bytes(*id);
        let ids = 0..tokenizer.vocab_size() as u32;
        let lengths = ids.clone().map(|id| bytes(&id).len() as u16).collect();
        let closes = |bytes: &[u8]| bytes == b"end" || (!bytes.is_empty() && bytes.iter().all(|byte| b"\" \n=>}]".contains(byte)));
        let closers = ids.filter(|id| closes(bytes(id))).collect();
        Self { lengths, closers }
    }
}

/// Random walks that prefer whatever closes something, until one arrives within the budget.
pub(crate) fn search(machine: &GrammarMask, hints: &Hints, budget: usize, seed: u64) -> Option<Vec<u32>> {
    (0..WALKS).find_map(|walk| {
        let mut random = SplitMix(seed ^ walk.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        walk_to_end(machine.clone(), hints, budget, &mut random)
    })
}

fn walk_to_end(mut machine: GrammarMask, hints: &Hints, budget: usize, random: &mut SplitMix) -> Option<Vec<u32>> {
    let (mut path, mut mask) = (Vec::new(), BitMask::default());
    while path.len() < budget {
        machine.allowed(&mut mask).ok()?;
        if mask.get(machine.end_id()) {
            path.push(machine.end_id());
            return Some(path);
        }
        let token = choose(&mask, hints, random)?;
        machine.advance(token).ok()?;
        path.push(token);
    }
    None
}

/// In free text a closer three times out of four; between fixed words the longest token half of the time.
fn choose(mask: &BitMask, hints: &Hints, random: &mut SplitMix) -> Option<u32> {
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

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
