//! The k3 estimator of the KL divergence.

use super::LOG_RATIO_LIMIT;

/// The default cap of [`k3`] (verl 0.9.1): one token, or one action, must not outweigh a batch.
pub(super) const KL_CAP: f64 = 10.0;

/// Computes `e^d - d - 1` with `d = reference - logprob`, and its derivative in `logprob` (Schulman 2020, "Approximating KL Divergence").
///
/// Where the value exceeds `cap`, or `d` lies beyond ±20, the value is clamped and the derivative is 0, as in verl 0.9.1.
pub fn k3(logprob: f64, reference: f64, cap: Option<f64>) -> (f64, f64) {
    let d = reference - logprob;
    let bounded = d.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT);
    let value = bounded.exp() - bounded - 1.0;
    match cap {
        Some(cap) if value > cap => (cap, 0.0),
        _ if d != bounded => (value, 0.0),
        _ => (value, 1.0 - bounded.exp()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_is_zero_and_flat_at_the_reference() {
        assert_eq!(k3(-1.5, -1.5, None), (0.0, 0.0));
        let (value, slope) = k3(-2.0, -1.0, None);
        let e = std::f64::consts::E;
        assert!((value - (e - 2.0)).abs() < 1e-12 && (slope - (1.0 - e)).abs() < 1e-12);
    }

    #[test]
    fn k3_is_constant_beyond_its_bounds() {
        assert_eq!(k3(-5.0, -1.0, Some(10.0)), (10.0, 0.0));
        assert!(k3(-5.0, -1.0, None).0 > 10.0);
        let (value, slope) = k3(-500.0, -1.0, None);
        assert!(value.is_finite() && slope == 0.0);
    }
}
