//! This program's own sampler, which mistralrs runs as a logits processor.
//!
//! mistralrs' sampler has no seed per request, reports log10 probabilities, and samples twice under a constraint, which leaves no
//! usable log-probability of the behaviour policy. This sampler chooses the token itself, and returns logits that allow mistralrs only that
//! token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use crate::sampling::{Completion, Sampled, Sampling};

/// A completion while it is being sampled, and the reason why sampling failed, if it did.
struct State {
    completion: Completion,
    error: Option<String>,
}

/// The sampler of one completion.
pub(super) struct Sampler {
    state: Mutex<State>,
    cancelled: Arc<AtomicBool>,
}

impl Sampler {
    /// Creates a sampler; setting `cancelled` ends the completion at the next token.
    pub(super) fn new(sampling: Sampling, cancelled: Arc<AtomicBool>) -> Self {
        Self { state: Mutex::new(State { completion: Completion::new(sampling), error: None }), cancelled }
    }

    /// Returns the tokens sampled so far.
    pub(super) fn sampled(&self) -> Sampled {
        self.lock().completion.sampled.clone()
    }

    /// Returns the reason why sampling failed, if it did.
    pub(super) fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl mistralrs::CustomLogitsProcessor for Sampler {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> candle_core::Result<Tensor> {
        if self.cancelled.load(Ordering::Relaxed) {
            candle_core::bail!("cancelled");
        }
        let mut state = self.lock();
        if state.completion.sampled.finished {
            candle_core::bail!("finished");
        }
        let mut values = logits.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let token = match state.completion.next(&values) {
            Ok(token) => token,
            Err(reason) => {
                state.error = Some(reason.clone());
                candle_core::bail!("{reason}");
            }
        };
        values.fill(f32::NEG_INFINITY);
        values[token as usize] = 0.0;
        let length = values.len();
        Tensor::from_vec(values, length, logits.device())
    }
}
