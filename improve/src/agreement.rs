//! Measures of the agreement between a judge and the truth.

use serde::Serialize;

/// The agreement on one question; a measure is `None` if it is not defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// The number of questions with a truth and a verdict.
    pub n: usize,
    /// The number of questions with a truth and without a verdict.
    pub missing: usize,
    /// The share of verdicts that equal the truth.
    pub accuracy: Option<f64>,
    /// The share of true highest grades among the verdicts of the highest grade.
    pub precision: Option<f64>,
    /// The share of true highest grades that also got the highest grade as a verdict.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// The agreement beyond chance, over all grades (Cohen 1960).
    pub kappa: Option<f64>,
}

/// Computes the agreement of pairs of grades (truth, verdict), where `top` is the highest grade; a verdict may be missing.
pub fn agreement(pairs: &[(u8, Option<u8>)], top: u8) -> Agreement {
    let judged: Vec<(u8, u8)> = pairs.iter().filter_map(|(truth, verdict)| Some((*truth, (*verdict)?))).collect();
    let count = |fits: &dyn Fn(u8, u8) -> bool| judged.iter().filter(|(truth, verdict)| fits(*truth, *verdict)).count() as f64;
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let n = judged.len() as f64;
    let hits = count(&|truth, verdict| truth == top && verdict == top);
    let (precision, recall) = (share(hits, count(&|_, verdict| verdict == top)), share(hits, count(&|truth, _| truth == top)));
    let accuracy = share(count(&|truth, verdict| truth == verdict), n);
    let by_chance: f64 = (0..=u8::MAX).map(|grade| count(&|truth, _| truth == grade) * count(&|_, verdict| verdict == grade)).sum();
    let kappa = accuracy.and_then(|same| {
        let chance = by_chance / (n * n);
        share(same - chance, 1.0 - chance)
    });
    let f1 = precision.zip(recall).and_then(|(precision, recall)| share(2.0 * precision * recall, precision + recall));
    Agreement { n: judged.len(), missing: pairs.len() - judged.len(), accuracy, precision, recall, f1, kappa }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks accuracy, precision, recall, F1 and kappa of pairs that are given as (truth, verdict, number of times).
    fn check(counts: &[(u8, Option<u8>, usize)], top: u8, want: [Option<f64>; 5]) -> Agreement {
        let pairs: Vec<_> = counts.iter().flat_map(|(truth, verdict, times)| vec![(*truth, *verdict); *times]).collect();
        let got = agreement(&pairs, top);
        let close = |(got, want): (Option<f64>, Option<f64>)| match (got, want) {
            (Some(got), Some(want)) => (got - want).abs() < 5e-5,
            (got, want) => got == want,
        };
        assert!([got.accuracy, got.precision, got.recall, got.f1, got.kappa].into_iter().zip(want).all(close), "{got:?}");
        got
    }

    #[test]
    fn figures_match_worked_examples() {
        // The usual example: two readers of 50 grant proposals, who both say yes to 20 and no to 15, have a kappa of 0.4.
        let grants = [(1, Some(1), 20), (1, Some(0), 5), (0, Some(1), 10), (0, Some(0), 15)];
        check(&grants, 1, [Some(0.7), Some(20.0 / 30.0), Some(20.0 / 25.0), Some(0.7273), Some(0.4)]);
        // The example of Cohen 1960, as counts that sum to 200: an agreement of .70, where chance alone gives .41.
        let table = [[88, 14, 18], [10, 40, 10], [2, 6, 12]];
        let cells: Vec<_> = (0..3).flat_map(|row| (0..3).map(move |column| (row as u8, Some(column as u8), table[row][column]))).collect();
        let cohen = check(&cells, 0, [Some(0.7), Some(0.88), Some(88.0 / 120.0), Some(0.8), Some(0.4915)]);
        assert_eq!(cohen.n, 200);
    }

    #[test]
    fn an_undefined_measure_is_none() {
        check(&[], 1, [None; 5]);
        // Truth and verdict are always yes, so that the agreement beyond chance is not defined.
        check(&[(1, Some(1), 9)], 1, [Some(1.0), Some(1.0), Some(1.0), Some(1.0), None]);
        let missing = check(&[(1, Some(0), 2), (1, None, 3)], 1, [Some(0.0), None, Some(0.0), None, Some(0.0)]);
        assert_eq!((missing.n, missing.missing), (2, 3));
    }
}
