//! Tests of critics on states whose targets are known.

use super::*;
use crate::testing::random;

/// Returns states of four features in two clusters, and the cluster of each state as 0 or 1.
fn two_clusters(n: usize, seed: u64) -> (Vec<Vec<f32>>, Vec<f64>) {
    let noise = random(4 * n, seed);
    let state = |i: usize| {
        let side = if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let far = noise[4 * i..4 * i + 4].iter().enumerate().map(|(c, x)| 100.0 * (0.4 * x + if c == 1 { side } else { 0.0 }));
        (far.collect(), if side > 0.0 { 1.0 } else { 0.0 })
    };
    (0..n).map(state).unzip()
}

#[test]
fn a_separable_outcome_is_learned_and_survives_its_files() {
    let config = CriticConfig { hidden: 8, batch: 16, lr: 1e-2, ..Default::default() };
    let ((states, outcomes), (unseen, truth)) = (two_clusters(200, 1), two_clusters(50, 2));
    let mut critic = Critic::value(4, &config).unwrap();
    assert_eq!(critic.predict(&states[0]).unwrap(), 0.5);
    let fit = critic.fit(&states, &outcomes, &config).unwrap();
    assert_eq!(fit.steps, 20 * 13);
    assert!((fit.loss_before - 2.0_f64.ln()).abs() < 1e-9 && fit.loss_after < 0.1, "{fit:?}");
    let right = unseen.iter().zip(&truth).filter(|(x, y)| (critic.predict(x).unwrap() > 0.5) == (**y > 0.5)).count();
    assert_eq!(right, 50);
    let directory = tempfile::tempdir().unwrap();
    critic.save(directory.path()).unwrap();
    assert_eq!(Critic::load(directory.path()).unwrap(), critic);
    let mut twin = Critic::value(4, &config).unwrap();
    twin.fit(&states, &outcomes, &config).unwrap();
    assert_eq!(twin, critic, "the same seed fits the same critic");
    let again = critic.fit(&states, &outcomes, &config).unwrap();
    assert_eq!(again.loss_before, fit.loss_after, "a later fit goes on from the earlier one");
}

#[test]
fn progress_is_learned_in_between() {
    let config = CriticConfig { epochs: 200, ..Default::default() };
    let states: Vec<Vec<f32>> = (0..=20).map(|t| vec![t as f32, 1.0]).collect();
    let labels: Vec<f64> = (0..=20).map(|t| f64::from(t) / 20.0).collect();
    let mut critic = Critic::potential(2, &config).unwrap();
    let fit = critic.fit(&states, &labels, &config).unwrap();
    assert!(fit.loss_after < 0.05 * fit.loss_before, "{fit:?}");
    let (early, late) = (critic.predict(&[4.5, 1.0]).unwrap(), critic.predict(&[15.5, 1.0]).unwrap());
    assert!((0.1..0.4).contains(&early) && (0.6..0.9).contains(&late), "{early} {late}");
}

#[test]
fn constant_labels_and_constant_features_are_learned_too() {
    let config = CriticConfig { epochs: 400, lr: 1e-2, ..Default::default() };
    let states = vec![vec![3.0, -1.0]; 30];
    for label in [0.0, 1.0] {
        let mut critic = Critic::value(2, &config).unwrap();
        let fit = critic.fit(&states, &[label; 30], &config).unwrap();
        let said = critic.predict(&states[0]).unwrap();
        assert!((said - label).abs() < 0.1 && fit.loss_after < fit.loss_before, "{said} for {label}");
    }
}

#[test]
fn wrong_targets_and_states_are_refused() {
    let config = CriticConfig::default();
    let (mut value, mut potential) = (Critic::value(2, &config).unwrap(), Critic::potential(2, &config).unwrap());
    let states = vec![vec![0.0, 1.0]; 2];
    let check_refused = |critic: &mut Critic, states: &[Vec<f32>], targets: &[f64], word: &str| {
        let problem = critic.fit(states, targets, &config).unwrap_err().to_string();
        assert!(problem.contains(word), "{problem}");
    };
    check_refused(&mut value, &states, &[1.0, 0.35], "an outcome is 0 or 1");
    check_refused(&mut potential, &states, &[1.0, 1.05], "between 0 and 1");
    check_refused(&mut potential, &states, &[0.5, f64::NAN], "between 0 and 1");
    check_refused(&mut value, &states, &[1.0], "one target a state");
    check_refused(&mut value, &[], &[], "one target a state");
    check_refused(&mut value, &[vec![0.0]], &[1.0], "1 features, the critic 2");
    check_refused(&mut value, &[vec![0.0, f32::NAN]], &[1.0], "not finite");
    assert!(value.predict(&[0.0; 3]).is_err());
    assert!(Critic::value(2, &CriticConfig { lr: 0.0, ..config }).unwrap_err().to_string().contains("`lr`"));
}
