//! The optimiser: AdamW (Loshchilov and Hutter 2019) with clipping of the global norm, optionally Muon for the matrices, and learning-rate
//! schedules.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::{Role, Tensor};
use crate::muon;

/// The number of parameters that one task of the thread pool handles; it is fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 15;

/// The constants of the optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// The decay of the first moment.
    pub beta1: f32,
    /// The decay of the second moment.
    pub beta2: f32,
    /// The number that is added to the root of the second moment.
    pub eps: f32,
    /// The decoupled weight decay; norms, biases and embeddings are exempt.
    pub weight_decay: f32,
    /// The maximum norm of a gradient; a larger gradient is scaled down to it. 0 turns clipping off.
    pub clip: f32,
    /// Whether Muon updates the matrices of the layers; AdamW always updates embeddings, biases and norms.
    pub muon: bool,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.01, clip: 1.0, muon: false }
    }
}

/// The outcome of an optimiser step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The parameters were updated.
    Applied {
        /// The norm of the gradient before clipping.
        grad_norm: f32,
    },
    /// The gradient was not finite; the parameters were not changed, and the step was counted as skipped.
    Skipped,
}

/// The optimiser of one flat slice of parameters, with moments in `f32`.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// The constants.
    pub config: AdamWConfig,
    /// The number of steps that updated the parameters.
    pub steps: u64,
    /// The number of steps that were skipped because the gradient was not finite.
    pub skipped: u64,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    /// The matrices of the layers, in ascending order: weight decay applies to them, and Muon if it is on.
    matrices: Vec<Matrix>,
}

/// A matrix in the flat slice.
#[derive(Clone, Debug)]
struct Matrix {
    range: Range<usize>,
    rows: usize,
    cols: usize,
}

impl AdamW {
    /// Creates an optimiser whose moments are zero.
    pub fn new(config: AdamWConfig, tensors: &[Tensor]) -> Self {
        let matrix = |t: &Tensor| match (t.role, &t.shape[..]) {
            (Role::Matrix | Role::ResidualMatrix, &[rows, cols]) => Some(Matrix { range: t.range.clone(), rows, cols }),
            _ => None,
        };
        let matrices = tensors.iter().filter_map(matrix).collect();
        let zeros = || vec![0.0; tensors.last().map_or(0, |t| t.range.end)];
        Self { config, steps: 0, skipped: 0, first: zeros(), second: zeros(), matrices }
    }

    /// Updates the parameters with the sum of the workers' gradients times `factor`, and sets the gradients to zero.
    pub fn step(&mut self, params: &mut [f32], grads: &mut [&mut [f32]], factor: f32, lr: f32) -> Step {
        let grad_norm = sum_into_first(grads, factor);
        let Some((total, rest)) = grads.split_first_mut() else { return Step::Applied { grad_norm: 0.0 } };
        for other in rest {
            other.par_chunks_mut(CHUNK).for_each(|c| c.fill(0.0));
        }
        if !grad_norm.is_finite() {
            total.par_chunks_mut(CHUNK).for_each(|c| c.fill(0.0));
            self.skipped += 1;
            return Step::Skipped;
        }
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay, clip, muon } = self.config;
        let clip = if clip > 0.0 && grad_norm > clip { clip / grad_norm } else { 1.0 };
        if muon {
            self.step_matrices(params, total, clip, lr);
        }
        let decayed: Vec<_> = self.matrices.iter().map(|m| m.range.clone()).collect();
        let adamw_ranges = complement(if muon { &decayed } else { &[] }, params.len());
        let age = self.steps.min(1 << 30) as i32;
        let step_size = lr / (1.0 - beta1.powi(age));
        let correction = 1.0 / (1.0 - beta2.powi(age)).sqrt();
        params
            .par_chunks_mut(CHUNK)
            .zip(total.par_chunks_mut(CHUNK))
            .zip(self.first.par_chunks_mut(CHUNK))
            .zip(self.second.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each(|(index, (((p, g), m), v))| {
                let (start, len) = (index * CHUNK, p.len());
                for range in within(&decayed, start, if muon { 0 } else { len }) {
                    crate::ops::vector::scale(&mut p[range], 1.0 - lr * weight_decay);
                }
                for range in within(&adamw_ranges, start, len) {
                    let moments = m[range.clone()].iter_mut().zip(&mut v[range.clone()]);
                    for ((p, g), (m, v)) in p[range.clone()].iter_mut().zip(&mut g[range]).zip(moments) {
                        let d = *g * clip;
                        *g = 0.0;
                        *m = beta1 * *m + (1.0 - beta1) * d;
                        *v = beta2 * *v + (1.0 - beta2) * d * d;
                        *p -= step_size * *m / (v.sqrt() * correction + eps);
                    }
                }
            });
        Step::Applied { grad_norm }
    }

    /// Updates the matrices by Muon, and sets their gradients to zero.
    fn step_matrices(&mut self, params: &mut [f32], total: &mut [f32], clip: f32, lr: f32) {
        let keep = 1.0 - lr * self.config.weight_decay;
        let (mut params, mut total, mut momenta) = (params, total, &mut self.first[..]);
        let mut start = 0;
        let mut work = Vec::with_capacity(self.matrices.len());
        for matrix in &self.matrices {
            let (skip, len) = (matrix.range.start - start, matrix.range.len());
            let (p, g, m) = (split_off(&mut params, skip, len), split_off(&mut total, skip, len), split_off(&mut momenta, skip, len));
            work.push((matrix, p, g, m));
            start = matrix.range.end;
        }
        work.into_par_iter().for_each(|(matrix, p, g, m)| {
            crate::ops::vector::scale(g, clip);
            muon::direction(g, m, matrix.rows, matrix.cols);
            for (p, g) in p.iter_mut().zip(g) {
                *p = keep * *p - lr * *g;
                *g = 0.0;
            }
        });
    }
}

/// Drops `skip` elements from the front of `rest`, then splits off and returns the next `len`.
fn split_off<'a>(rest: &mut &'a mut [f32], skip: usize, len: usize) -> &'a mut [f32] {
    let (_, tail) = std::mem::take(rest).split_at_mut(skip);
    let (taken, tail) = tail.split_at_mut(len);
    *rest = tail;
    taken
}

/// Replaces the first slice by `factor * Σ grads` and returns the norm of the result.
fn sum_into_first(grads: &mut [&mut [f32]], factor: f32) -> f32 {
    let Some((total, rest)) = grads.split_first_mut() else { return 0.0 };
    let sums: Vec<f64> = total
        .par_chunks_mut(CHUNK)
        .enumerate()
        .map(|(index, total)| {
            for other in rest.iter() {
                crate::ops::vector::add(total, &other[index * CHUNK..index * CHUNK + total.len()]);
            }
            crate::ops::vector::scale(total, factor);
            f64::from(crate::ops::vector::dot(total, total))
        })
        .collect();
    sums.iter().sum::<f64>().sqrt() as f32
}

/// Returns the parts of `0..len` that the ascending `ranges` do not cover.
fn complement(ranges: &[Range<usize>], len: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|r| r.end));
    let ends = ranges.iter().map(|r| r.start).chain(std::iter::once(len));
    starts.zip(ends).map(|(start, end)| start..end).filter(|r| !r.is_empty()).collect()
}

/// Returns the parts of the ascending `ranges` that lie inside `start..start + len`, relative to `start`.
fn within(ranges: &[Range<usize>], start: usize, len: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let first = ranges.partition_point(|r| r.end <= start);
    ranges[first..]
        .iter()
        .take_while(move |r| r.start < start + len)
        .map(move |r| r.start.max(start) - start..r.end.min(start + len) - start)
}

/// The course of the learning rate after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The learning rate stays constant.
    Constant,
    /// The learning rate falls along half a cosine to a hundredth of its peak.
    #[default]
    Cosine,
    /// The learning rate falls linearly to a hundredth of its peak.
    Linear,
}

impl Schedule {
    /// Returns the learning rate relative to its peak when the fraction `done` (0 to 1) of the run is over.
    pub fn factor(self, done: f64) -> f64 {
        const FLOOR: f64 = 0.01;
        let done = done.clamp(0.0, 1.0);
        let left = match self {
            Self::Constant => return 1.0,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Linear => 1.0 - done,
        };
        FLOOR + (1.0 - FLOOR) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Layout, ModelConfig};

    fn tiny() -> Layout {
        let mut config = ModelConfig::seed(8, 0, 1);
        (config.hidden_size, config.intermediate_size, config.num_hidden_layers) = (4, 4, 1);
        Layout::new(&config)
    }

    #[test]
    fn a_step_is_that_of_the_paper() {
        let layout = tiny();
        let mut optimizer = AdamW::new(AdamWConfig { clip: 0.0, weight_decay: 0.1, ..Default::default() }, &layout.tensors);
        let (mut p, n) = (vec![1.0; layout.len()], layout.len());
        let (mut a, mut b) = (vec![0.25; n], vec![0.25; n]);
        let step = optimizer.step(&mut p, &mut [&mut a, &mut b], 2.0, 0.1);
        assert_eq!(step, Step::Applied { grad_norm: (n as f32).sqrt() });
        assert!(a.iter().chain(&b).all(|g| *g == 0.0));
        // The first step changes a parameter by lr against the sign of its gradient; matrices also decay by lr * weight decay.
        for t in &layout.tensors {
            let decays = matches!(t.role, Role::Matrix | Role::ResidualMatrix);
            let want = if decays { 0.99 - 0.1 } else { 0.9 };
            assert!(p[t.range.clone()].iter().all(|x| (x - want).abs() < 1e-5), "{}", t.name);
        }
    }

    #[test]
    fn muon_moves_matrices_and_leaves_the_rest_to_adamw() {
        let layout = tiny();
        let n = layout.len();
        let run = |muon| {
            let mut optimizer = AdamW::new(AdamWConfig { muon, ..Default::default() }, &layout.tensors);
            let mut p = vec![1.0; n];
            for seed in 0..3 {
                let mut g = crate::testing::random(n, seed);
                optimizer.step(&mut p, &mut [&mut g], 1.0, 0.1);
                assert!(g.iter().all(|g| *g == 0.0));
            }
            p
        };
        let (adamw, muon) = (run(false), run(true));
        for t in &layout.tensors {
            let matrix = matches!(t.role, Role::Matrix | Role::ResidualMatrix);
            assert_eq!(adamw[t.range.clone()] != muon[t.range.clone()], matrix, "{}", t.name);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_counted_and_dropped() {
        let layout = tiny();
        let mut optimizer = AdamW::new(AdamWConfig::default(), &layout.tensors);
        let (mut p, mut g) = (vec![1.0; layout.len()], vec![0.0; layout.len()]);
        g[3] = f32::NAN;
        assert_eq!(optimizer.step(&mut p, &mut [&mut g], 1.0, 0.1), Step::Skipped);
        assert_eq!((optimizer.skipped, optimizer.steps, p[3], g[3]), (1, 0, 1.0, 0.0));
    }

    #[test]
    fn schedules_end_low() {
        assert_eq!(Schedule::Constant.factor(1.0), 1.0);
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            assert!((schedule.factor(0.0) - 1.0).abs() < 1e-9);
            assert!((schedule.factor(0.5) - 0.505).abs() < 1e-9);
            assert!((schedule.factor(2.0) - 0.01).abs() < 1e-9);
        }
    }
}
