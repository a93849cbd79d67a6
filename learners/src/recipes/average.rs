//! A moving average for training metrics.

use serde::{Deserialize, Serialize};

/// A moving average that is the exact mean while it has seen few values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MovingAverage {
    /// The average.
    pub value: f64,
    /// The number of values added so far.
    pub count: u64,
}

impl MovingAverage {
    /// Adds a value: the mean of the first `memory` values, then an exponential average with weight `1 / memory`.
    pub fn push(&mut self, value: f64, memory: f64) {
        self.count += 1;
        self.value += (value - self.value) / (self.count as f64).min(memory);
    }
}
