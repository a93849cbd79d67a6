//! Mini-batches of calls that share a prompt prefix.

use super::trained_call::TrainedCall;

/// The maximum number of calls in a bundle, so that a batch still holds many states.
const BUNDLE: usize = 8;

/// Bundles calls whose prompts share a prefix, such as the calls of one group in one state: in one batch the trainer computes the prefix
/// once for all of them.
pub(super) fn bundle_by_prefix<'a>(calls: &'a [TrainedCall<'a>]) -> Vec<Vec<&'a TrainedCall<'a>>> {
    let mut sorted: Vec<&TrainedCall> = calls.iter().collect();
    sorted.sort_by(|a, b| a.call.prompt.cmp(&b.call.prompt));
    let mut bundles: Vec<Vec<&TrainedCall>> = Vec::new();
    for call in sorted {
        let belongs = |bundle: &&mut Vec<&TrainedCall>| {
            let (first, prompt) = (&bundle[0].call.prompt, &call.call.prompt);
            let shared = first.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            bundle.len() < BUNDLE && 2 * shared > prompt.len()
        };
        match bundles.last_mut().filter(belongs) {
            Some(bundle) => bundle.push(call),
            None => bundles.push(vec![call]),
        }
    }
    bundles
}

/// Combines bundles into batches of at most `max_tokens` tokens, but at least one bundle each.
pub(super) fn batches<'a>(bundles: &[Vec<&'a TrainedCall<'a>>], max_tokens: usize) -> Vec<Vec<&'a TrainedCall<'a>>> {
    let (mut batches, mut tokens): (Vec<Vec<&TrainedCall>>, usize) = (Vec::new(), usize::MAX);
    for bundle in bundles {
        let n = bundle.iter().map(|call| call.call.tokens()).sum::<usize>();
        match batches.last_mut() {
            Some(batch) if tokens.saturating_add(n) <= max_tokens => {
                batch.extend(bundle);
                tokens += n;
            }
            _ => {
                batches.push(bundle.clone());
                tokens = n;
            }
        }
    }
    batches
}
