//! The distance between two adapters of one model, module by module.

use serde::Serialize;

use super::{Adapter, PREFIX};

/// A comparison of two adapters on one module, by the Frobenius norms of the updates that they add to its weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModuleDifference {
    /// The path of the module.
    pub module: String,
    /// The norm of the first adapter's update; 0 if it has none on this module.
    pub first: f64,
    /// The norm of the second adapter's update; 0 if it has none on this module.
    pub second: f64,
    /// The norm of the difference of the two updates.
    pub difference: f64,
}

/// The update of one module, `scale · B A`.
struct Update<'a> {
    module: &'a str,
    /// The factor `A` `[rank, inputs]`.
    a: &'a [f32],
    /// The factor `B` `[outputs, rank]`.
    b: &'a [f32],
    rank: usize,
    scale: f64,
}

/// Compares two adapters, whose ranks and targets may differ. Returns the modules of the first adapter in its order, then the modules that only
/// the second adapter has.
pub fn differences(first: &Adapter, second: &Adapter) -> Vec<ModuleDifference> {
    let (first, second) = (updates(first), updates(second));
    let find = |updates: &'_ [Update<'_>], module: &str| updates.iter().position(|update| update.module == module);
    let mut found: Vec<ModuleDifference> =
        first.iter().map(|update| compare(Some(update), find(&second, update.module).map(|index| &second[index]))).collect();
    let only_second = second.iter().filter(|update| find(&first, update.module).is_none());
    found.extend(only_second.map(|update| compare(None, Some(update))));
    found
}

fn updates(adapter: &Adapter) -> Vec<Update<'_>> {
    // The two factors of a module are neighbours, first A, then B.
    let pairs = adapter.tensors.chunks_exact(2);
    pairs
        .map(|pair| Update {
            module: pair[0].name.trim_start_matches(PREFIX).trim_end_matches(".lora_A.weight"),
            a: &adapter.data[pair[0].range.clone()],
            b: &adapter.data[pair[1].range.clone()],
            rank: adapter.config.rank,
            scale: f64::from(adapter.scale()),
        })
        .collect()
}

fn compare(first: Option<&Update<'_>>, second: Option<&Update<'_>>) -> ModuleDifference {
    let both = |x: Option<&Update<'_>>, y: Option<&Update<'_>>| x.zip(y).map_or(0.0, |(x, y)| inner(x, y));
    let (ff, fs, ss) = (both(first, first), both(first, second), both(second, second));
    let module = first.or(second).map_or("", |update| update.module).to_owned();
    ModuleDifference { module, first: ff.sqrt(), second: ss.sqrt(), difference: (ff - 2.0 * fs + ss).max(0.0).sqrt() }
}

/// Returns the Frobenius inner product of two updates without computing their matrices: `⟨B A, B' A'⟩ = Σ (Bᵀ B') ∘ (A A'ᵀ)`.
fn inner(x: &Update<'_>, y: &Update<'_>) -> f64 {
    let mut sum = 0.0;
    for i in 0..x.rank {
        for j in 0..y.rank {
            let columns = x.b.iter().skip(i).step_by(x.rank).zip(y.b.iter().skip(j).step_by(y.rank));
            let rows = row(x, i).iter().zip(row(y, j));
            sum += dot(columns) * dot(rows);
        }
    }
    x.scale * y.scale * sum
}

fn row<'a>(update: &Update<'a>, index: usize) -> &'a [f32] {
    let inputs = update.a.len() / update.rank;
    &update.a[index * inputs..(index + 1) * inputs]
}

fn dot<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> f64 {
    pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{LoraConfig, LoraInit, Target};
    use super::*;
    use crate::ModelConfig;

    /// Returns the norm of the difference of two updates, computed entry by entry.
    fn dense(x: &Update<'_>, y: &Update<'_>) -> f64 {
        let (inputs, outputs) = (x.a.len() / x.rank, x.b.len() / x.rank);
        let entry = |update: &Update<'_>, out: usize, input: usize| -> f64 {
            let products = (0..update.rank).map(|r| f64::from(update.b[out * update.rank + r]) * f64::from(update.a[r * inputs + input]));
            update.scale * products.sum::<f64>()
        };
        let entries = (0..outputs).flat_map(|out| (0..inputs).map(move |input| (out, input)));
        entries.map(|(out, input)| (entry(x, out, input) - entry(y, out, input)).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn norms_match_the_dense_difference() {
        let model = ModelConfig::seed(64, 0, 1);
        let fresh = |rank, alpha, targets: &[Target], seed| {
            Adapter::fresh(LoraConfig { rank, alpha, targets: targets.to_vec() }, &model, seed, LoraInit::Random).unwrap()
        };
        let (x, y) = (fresh(2, 4.0, &[Target::QProj, Target::UpProj], 1), fresh(3, 3.0, &[Target::QProj, Target::KProj], 2));
        let found = differences(&x, &y);
        assert_eq!(found.len(), 3 * model.num_hidden_layers);
        let (a, b) = (updates(&x), updates(&y));
        let expected = dense(&a[0], &b[0]);
        assert_eq!(found[0].module, "model.layers.0.self_attn.q_proj");
        assert!((found[0].difference - expected).abs() < 1e-9 * expected && expected > 0.0, "{found:?} {expected}");
        let only_second = found.iter().find(|module| module.module.ends_with("0.self_attn.k_proj")).unwrap();
        assert!(only_second.first == 0.0 && only_second.difference == only_second.second && only_second.second > 0.0);
        assert!(differences(&x, &x).iter().all(|module| module.difference == 0.0 && module.first > 0.0));
    }
}
