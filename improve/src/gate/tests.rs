//! Tests the gate on tables of outcomes, and its error rates by simulation.

use milepost_runtime::registry::Occasion;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const CASES: [(Test, Spending); 4] = [
    (Test::Mcnemar, Spending::Pocock),
    (Test::Mcnemar, Spending::ObrienFleming),
    (Test::Bootstrap, Spending::Pocock),
    (Test::Bootstrap, Spending::ObrienFleming),
];

/// Runs a gate on random outcomes with these probabilities that both sides solve a task, only the candidate, or only the incumbent.
fn simulate(config: &GateConfig, both: f64, candidate: f64, incumbent: f64, seed: u64) -> Decision {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut gate = Gate::new(config.clone()).unwrap();
    loop {
        let pairs: Vec<Pair> = (0..config.tasks_per_look)
            .map(|_| {
                let draw: f64 = rng.random();
                let (c, i) = (both + candidate, both + candidate + incumbent);
                Pair::solved(draw < c, draw < both || (c..i).contains(&draw))
            })
            .collect();
        if let Look::Decided(decision) = gate.look(&pairs).unwrap() {
            return decision;
        }
    }
}

fn share(decisions: &[Decision], verdict: Verdict) -> f64 {
    decisions.iter().filter(|decision| decision.verdict == verdict).count() as f64 / decisions.len() as f64
}

/// Under the null hypothesis, the rates of promotions and of quarantines stay within the error probability of all looks together.
#[test]
fn equal_candidates_are_rarely_promoted_or_quarantined() {
    for (test, spending) in CASES {
        // Resampling is slow and its error is approximate, so it is tested on one case.
        let (runs, cases) = if test == Test::Mcnemar { (2000, 3) } else { (400, 1) };
        let config = GateConfig { test, spending, resamples: 1600, ..GateConfig::default() };
        for (both, differing) in [(0.4, 0.15), (0.6, 0.05), (0.0, 0.5)].into_iter().take(cases) {
            let decisions: Vec<Decision> = (0..runs).map(|seed| simulate(&config, both, differing, differing, seed)).collect();
            let noise = 3.0 * (0.05_f64 * 0.95 / runs as f64).sqrt();
            for verdict in [Verdict::Promote, Verdict::Quarantine] {
                let rate = share(&decisions, verdict);
                assert!(rate <= 0.05 + noise, "{test:?} {spending:?} {differing}: {verdict:?} in {rate}");
            }
        }
    }
}

/// Testing at the full level at every look, which the gate avoids, promotes equal candidates far too often.
#[test]
fn without_spending_the_error_is_far_too_large() {
    let alpha = GateConfig::default().alpha;
    let naive = |seed: u64| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut wins, mut losses) = (0, 0);
        (0..20).any(|_| {
            for _ in 0..10 {
                *(if rng.random_bool(0.5) { &mut wins } else { &mut losses }) += 1;
            }
            sign_test(wins, losses) <= alpha
        })
    };
    assert!((0..2000).filter(|seed| naive(*seed)).count() > 300);
    let config = GateConfig { looks: 20, tasks_per_look: 10, ..GateConfig::default() };
    let promoted = (0..2000).filter(|seed| simulate(&config, 0.0, 0.5, 0.5, *seed).verdict == Verdict::Promote).count();
    assert!((40..=130).contains(&promoted), "{promoted} of 2000");
}

/// A clear improvement and a clear deterioration are detected, mostly before the last look.
#[test]
fn clear_differences_are_found_early() {
    for (test, spending) in CASES {
        let runs = if test == Test::Mcnemar { 1000 } else { 100 };
        let config = GateConfig { test, spending, resamples: 1600, ..GateConfig::default() };
        for (candidate, incumbent, verdict) in [(0.3, 0.05, Verdict::Promote), (0.05, 0.3, Verdict::Quarantine)] {
            let decisions: Vec<Decision> = (0..runs).map(|seed| simulate(&config, 0.5, candidate, incumbent, seed)).collect();
            let looks = decisions.iter().map(|decision| decision.looks).sum::<usize>() as f64 / runs as f64;
            let found = share(&decisions, verdict);
            assert!(found > 0.95 && looks < 3.0, "{test:?} {spending:?}: {found} in {looks} looks");
        }
    }
}

/// Builds the pairs of one look from the numbers of tasks that only the candidate solved, only the incumbent, both, or neither.
fn pairs(won: usize, lost: usize, both: usize, neither: usize) -> Vec<Pair> {
    let repeat = |count, candidate, incumbent| vec![Pair::solved(candidate, incumbent); count];
    [repeat(won, true, false), repeat(lost, false, true), repeat(both, true, true), repeat(neither, false, false)].concat()
}

fn check(config: GateConfig, looks: &[Vec<Pair>], verdict: Verdict, after: usize, says: &[&str]) {
    let mut gate = Gate::new(config).unwrap();
    for (index, look) in looks.iter().enumerate() {
        // The gate is serialized between looks, as in a loop that may be killed.
        gate = serde_json::from_str(&serde_json::to_string(&gate).unwrap()).unwrap();
        match gate.look(look).unwrap() {
            Look::Continue => assert!(index + 1 < after, "no decision at look {}", index + 1),
            Look::Decided(decision) => {
                assert_eq!((decision.verdict, decision.looks), (verdict, after), "{}", decision.reason);
                assert!(says.iter().all(|part| decision.reason.contains(part)), "{}", decision.reason);
                let figure = decision.figure(Occasion::Gate);
                assert_eq!((figure.decision, figure.candidate, figure.p), (Some(verdict.status()), decision.candidate, Some(decision.p)));
                assert_eq!(gate.look(&pairs(25, 0, 0, 0)).unwrap(), Look::Decided(decision), "a decision stands");
                return;
            }
        }
    }
    panic!("no decision");
}

#[test]
fn verdicts_carry_their_reason() {
    let config = GateConfig::default();
    let nothing = pairs(0, 0, 20, 5);
    check(
        config.clone(),
        &[pairs(9, 0, 10, 6)],
        Verdict::Promote,
        1,
        &["better at look 1 of 4", "19 of 25 tasks against 10 of 25", "p 1.95e-3"],
    );
    check(config.clone(), &[pairs(0, 9, 10, 6)], Verdict::Quarantine, 1, &["worse at look 1 of 4", "0 done better and 9 worse"]);
    check(config.clone(), &vec![nothing.clone(); 4], Verdict::Inconclusive, 4, &["0 differing tasks are too few", "80 of 100"]);
    check(config.clone(), &[nothing.clone(), pairs(8, 1, 16, 0)], Verdict::Promote, 2, &["look 2 of 4"]);
    check(config.clone(), &[vec![], vec![], vec![], vec![]], Verdict::Inconclusive, 4, &["0 of 0 tasks"]);
    let demanding = GateConfig { min_improvement: 0.2, ..config };
    let slightly = pairs(4, 0, 21, 0);
    check(demanding, &vec![slightly; 4], Verdict::Inconclusive, 4, &["by less than the 0.2"]);
}

#[test]
fn invalid_outcomes_and_settings_are_refused() {
    for wrong in [f64::NAN, -0.1, 1.5, f64::INFINITY] {
        let mut gate = Gate::new(GateConfig::default()).unwrap();
        let error = gate.look(&[Pair { candidate: wrong, incumbent: 1.0 }]).unwrap_err().to_string();
        assert!(error.contains("from 0 (failed) to 1 (solved)"), "{error}");
        assert_eq!(gate.seen(), 0);
    }
    for (config, key) in [
        (GateConfig { alpha: 0.0, ..GateConfig::default() }, "gate.alpha"),
        (GateConfig { worse_alpha: 0.7, ..GateConfig::default() }, "gate.worse_alpha"),
        (GateConfig { looks: 0, ..GateConfig::default() }, "gate.looks"),
        (GateConfig { min_improvement: f64::NAN, ..GateConfig::default() }, "gate.min_improvement"),
        (GateConfig { test: Test::Bootstrap, resamples: 100, ..GateConfig::default() }, "gate.resamples"),
    ] {
        assert!(Gate::new(config).unwrap_err().to_string().contains(key), "{key}");
    }
}
