//! Recipes: one algorithm per file, readable from top to bottom.

pub mod policy;
pub mod sft;
