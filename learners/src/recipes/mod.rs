//! Training recipes: one algorithm per module, readable from top to bottom.

mod average;
pub mod policy;
pub mod sft;

pub use average::MovingAverage;
