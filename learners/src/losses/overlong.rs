//! A penalty on completions whose length comes close to the limit.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where the penalty begins, and its maximum; the defaults are those of PilotRL's scripts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlongConfig {
    /// The maximum number of tokens of a completion.
    pub max_tokens: usize,
    /// The number of tokens before the limit over which the penalty grows.
    pub buffer: usize,
    /// The penalty at the limit.
    pub factor: f64,
}

impl Default for OverlongConfig {
    fn default() -> Self {
        Self { max_tokens: 14_336, buffer: 3072, factor: 1.0 }
    }
}

/// Computes the reward penalty of a completion with this number of tokens: 0 to `-factor`, linear over the buffer (DAPO, 2503.14476,
/// section 3.4).
///
/// # Errors
/// A constant is out of its range.
pub fn overlong(config: &OverlongConfig, tokens: usize) -> Result<f64> {
    let &OverlongConfig { max_tokens, buffer, factor } = config;
    if !(1..=max_tokens).contains(&buffer) {
        return Err(Error::Config { key: "buffer", problem: format!("{buffer} does not lie between 1 and `max_tokens`, {max_tokens}") });
    }
    if !(factor >= 0.0 && factor.is_finite()) {
        return Err(Error::Config { key: "factor", problem: format!("{factor} is not at least 0") });
    }
    let excess = tokens.saturating_sub(max_tokens - buffer).min(buffer);
    Ok(if excess == 0 { 0.0 } else { -(excess as f64) / buffer as f64 * factor })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DAPO's penalty (2503.14476), computed by hand.
    #[test]
    fn the_penalty_grows_linearly_over_the_buffer() {
        for (tokens, want) in [(1, 0.0), (11_264, 0.0), (12_800, -0.5), (14_336, -1.0), (20_000, -1.0)] {
            assert_eq!(overlong(&OverlongConfig::default(), tokens).unwrap(), want, "{tokens} tokens");
        }
        assert_eq!(overlong(&OverlongConfig { factor: 0.5, ..Default::default() }, 12_800).unwrap(), -0.25);
    }

    #[test]
    fn a_buffer_outside_the_limit_is_refused() {
        for buffer in [0, 101] {
            let config = OverlongConfig { max_tokens: 100, buffer, ..Default::default() };
            assert!(overlong(&config, 5).unwrap_err().to_string().contains("`buffer`"));
        }
        assert!(overlong(&OverlongConfig { factor: f64::NAN, ..Default::default() }, 5).is_err());
    }
}
