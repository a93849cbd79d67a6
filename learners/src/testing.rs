//! Helper functions for this crate's unit tests.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Returns `len` random numbers in [-1, 1), which depend only on `seed`.
pub fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Returns `Σ a b` in f64: a scalar loss whose gradient with respect to `a` is `b`.
pub fn weighted_sum(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Checks that a gradient agrees with central differences of `loss` around `x`.
pub fn check_gradient(name: &str, x: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) {
    assert_eq!(x.len(), gradient.len());
    let mut moved = x.to_vec();
    for i in 0..x.len() {
        let step = 1e-2;
        let mut at = |offset: f32| {
            moved[i] = x[i] + offset;
            let value = loss(&moved);
            moved[i] = x[i];
            value
        };
        // Differences of fourth order are accurate enough even with a step that is large enough for the resolution of f32.
        let want = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * f64::from(step));
        let got = f64::from(gradient[i]);
        assert!((got - want).abs() < 2e-3 * (1.0 + want.abs()), "d{name}[{i}] is {got}, differences say {want}");
    }
}
