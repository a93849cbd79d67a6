//! Our own sampler, run by mistralrs as a logits processor.
//!
//! mistralrs' sampler has no seed per request, reports log10 probabilities, and samples twice under a constraint, which leaves no
//! usable log-probability of the behaviour. Ours returns logits that leave it no choice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use crate::local::{Completion, Sampled, Sampling};

/// One completion's sampler.
pub(super) struct Sampler {
    state: Mutex<Completion>,
    cancelled: Arc<AtomicBool>,
}

impl Sampler {
    /// A sampler; setting `cancelled` ends the completion at the next token.
    pub(super) fn new(sampling: Sampling, cancelled: Arc<AtomicBool>) -> Self {
        Self { state: Mutex::new(Completion::new(sampling)), cancelled }
    }

    /// What was sampled so far.
    pub(super) fn sampled(&self) -> Sampled {
        self.lock().sampled.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Completion> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl mistralrs::CustomLogitsProcessor for Sampler {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> candle_core::Result<Tensor> {
        if self.cancelled.load(Ordering::Relaxed) {
            candle_core::bail!("cancelled");
        }
        let mut state = self.lock();
        if state.sampled.finished {
            candle_core::bail!("finished");
        }
        let mut values = logits.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let token = match state.next(&values) {
            Ok(token) => token,
            Err(reason) => {
                state.sampled.error = Some(reason.clone());
                candle_core::bail!("{reason}");
            }
        };
        values.fill(f32::NEG_INFINITY);
        values[token as usize] = 0.0;
        let length = values.len();
        Tensor::from_vec(values, length, logits.device())
    }
}
