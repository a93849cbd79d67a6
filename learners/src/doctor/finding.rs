//! The outcome of a check: a value, its bounds, and its level.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The value is inside its bounds.
    Ok,
    /// The value is unusual and should be looked at.
    Warning,
    /// The value is so bad that the update should not be made.
    Failure,
}

/// The bounds of a value; `None` (`null` in a file) means that there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// A value below this is a warning.
    pub min: Option<f64>,
    /// A value above this is a warning.
    pub max: Option<f64>,
    /// A value below this is a failure.
    pub fail_below: Option<f64>,
    /// A value above this is a failure.
    pub fail_above: Option<f64>,
}

impl Bounds {
    /// Returns bounds that give a warning outside `min` to `max`.
    pub const fn warn(min: Option<f64>, max: Option<f64>) -> Self {
        Self { min, max, fail_below: None, fail_above: None }
    }

    /// Returns the level of a value; a value that is not finite is a failure.
    pub fn level(&self, value: f64) -> Level {
        let below = |bound: Option<f64>| bound.is_some_and(|bound| value < bound);
        let above = |bound: Option<f64>| bound.is_some_and(|bound| value > bound);
        if !value.is_finite() || below(self.fail_below) || above(self.fail_above) {
            Level::Failure
        } else if below(self.min) || above(self.max) {
            Level::Warning
        } else {
            Level::Ok
        }
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The name of the check, which is its key in [`super::policy::PolicyDoctorConfig`].
    pub name: &'static str,
    /// The value that was measured.
    pub value: f64,
    /// The bounds of the value.
    pub bounds: Bounds,
    /// The level of the value.
    pub level: Level,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.level {
            Level::Ok => "✓",
            Level::Warning => "!",
            Level::Failure => "✗",
        };
        write!(f, "{mark} {} {:.4}", self.name, self.value)?;
        let Bounds { min, max, fail_below, fail_above } = self.bounds;
        for (word, bound) in [("at least", min), ("at most", max), ("never below", fail_below), ("never above", fail_above)] {
            bound.map_or(Ok(()), |bound| write!(f, ", {word} {bound}"))?;
        }
        Ok(())
    }
}

impl Finding {
    /// Creates the finding of a value, whose level follows from the bounds.
    pub(super) fn new(name: &'static str, bounds: Bounds, value: f64) -> Self {
        Self { name, value, bounds, level: bounds.level(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_judged_by_its_bounds_and_told_in_a_line() {
        let bounds = Bounds { fail_below: Some(0.01), ..Bounds::warn(Some(0.05), Some(0.5)) };
        for (value, level) in [
            (0.05, Level::Ok),
            (0.5, Level::Ok),
            (0.049, Level::Warning),
            (0.51, Level::Warning),
            (0.009, Level::Failure),
            (f64::NAN, Level::Failure),
            (f64::INFINITY, Level::Failure),
        ] {
            assert_eq!(bounds.level(value), level, "{value}");
        }
        let line = Finding::new("entropy", bounds, 0.3).to_string();
        assert_eq!(line, "✓ entropy 0.3000, at least 0.05, at most 0.5, never below 0.01");
    }
}
