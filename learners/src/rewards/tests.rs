use milepost_runtime::{
    Action, Element, Episode, Judged, Judgement, MilestoneSource, MilestonesReached, Observation, Outcome, PlanScores, Question, Reached,
    Revision, Step, Stop, Task, Verdicts,
};

use super::*;

/// Builds a step on page `path`, which holds the link "Next" with this id.
fn step(path: &str, id: u32, action: &str, ok: bool) -> Step {
    let link = Element { id, role: "link".into(), name: "Next".into(), ..Element::default() };
    Step {
        turn: 0,
        observation: Observation { url: format!("http://site.local{path}"), elements: vec![link], ..Observation::default() },
        revision: Revision::Keep,
        plan_version: 0,
        cursor: 0,
        action: Action::parse(action).unwrap(),
        outcome: if ok { Outcome::done() } else { Outcome::failed("invalid: there is no such thing") },
        calls: Vec::new(),
        reached: Vec::new(),
        timing: Default::default(),
        screenshot: None,
    }
}

fn episode(steps: Vec<Step>, success: Option<bool>) -> Episode {
    let mut episode = Episode::begin(Task::new("x", "http://site.local/").unwrap(), "adaplan", "acting");
    (episode.steps, episode.success, episode.stop) = (steps, success, Some(Stop::Answered));
    episode
}

/// Builds an episode of `steps` steps, none of which repeats another.
pub(crate) fn episode_of(steps: usize, success: bool) -> Episode {
    episode((0..steps).map(|at| step(&format!("/{at}"), 1, "click 1", true)).collect(), Some(success))
}

fn judged<T>(verdict: T) -> Option<Judged<T>> {
    Some(Judged { verdict, by: JudgeRef { model: "judge".into(), samples: 3, parsed: 3, ..JudgeRef::default() } })
}

fn milestones(source: MilestoneSource, count: usize, turns: &[u32]) -> Verdicts {
    let reached = turns.iter().enumerate().map(|(milestone, turn)| Reached { milestone, turn: *turn }).collect();
    Verdicts { milestones: Some(MilestonesReached { source, count, reached }), ..Verdicts::default() }
}

fn check_close(got: &[f64], want: &[f64]) {
    let close = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| (got - want).abs() < 5e-5);
    assert!(close, "{got:?} is not {want:?}");
}

fn check_total(episode: &Episode, verdicts: &Verdicts, config: &RewardConfig, want: f64) {
    check_close(&[compose(episode, verdicts, config).total().unwrap()], &[want]);
}

/// Builds the calls `s1 s1 s2 c1 c1 c1`, of which the last one is invalid.
fn calls() -> Vec<Step> {
    let call = |text: &str, ok| step("/", 1, text, ok);
    let (one, two, code) = (r#"call search {"q":"a"}"#, r#"call search {"q":"b"}"#, r#"call code {"q":"a"}"#);
    vec![call(one, true), call(one, true), call(two, true), call(code, true), call(code, true), call(code, false)]
}

/// RLTR (2508.19598, algorithm 1): the total and the malformed case, computed by hand.
#[test]
fn rltr_is_completeness_less_repetitions_and_errors() {
    let rltr = Preset::Rltr.config();
    let verdicts = Verdicts { completeness: judged(vec![true, true, false]), ..Verdicts::default() };
    check_total(&episode(calls(), None), &verdicts, &rltr, 2.0 / 3.0 - 0.3 - 0.2);
    for verdicts in [verdicts, Verdicts::default()] {
        let mut malformed = episode(calls(), None);
        malformed.stop = Some(Stop::Malformed("cannot read action".into()));
        assert_eq!(compose(&malformed, &verdicts, &rltr).total(), Some(-1.0));
    }
}

#[test]
fn output_that_can_be_parsed_is_never_worse_than_malformed_output() {
    let hopeless = episode((0..9).map(|_| step("/", 1, "click 5", false)).collect(), Some(false));
    let verdicts = Verdicts { completeness: judged(vec![false]), ..Verdicts::default() };
    check_total(&hopeless, &verdicts, &Preset::Rltr.config(), -1.0);
    check_total(&hopeless, &verdicts, &RewardConfig { floor: None, ..Preset::Rltr.config() }, -9.0 * 0.2 - 8.0 * 0.1);
    check_total(&hopeless, &verdicts, &RewardConfig { floor: Some(-0.5), ..Preset::Rltr.config() }, -0.5);
}

#[test]
fn a_repetition_is_the_same_action_on_the_same_element_of_the_same_page() {
    let penalty = |steps: Vec<Step>| {
        let verdicts = Verdicts { completeness: judged(vec![true]), ..Verdicts::default() };
        compose(&episode(steps, None), &verdicts, &Preset::Rltr.config()).total().unwrap() - 1.0
    };
    let two = |one: (&str, u32, &str), other: (&str, u32, &str)| {
        penalty(vec![step(one.0, one.1, one.2, true), step(other.0, other.1, other.2, true)])
    };
    check_close(&[two(("/", 1, "click 1"), ("/", 1, "click 1"))], &[-0.1]);
    check_close(&[two(("/", 1, "click 1"), ("/", 7, "click 7"))], &[-0.1]);
    check_close(&[two(("/?page=1", 1, "click 1"), ("/?page=2", 1, "click 1"))], &[0.0]);
    check_close(&[two(("/", 1, "type 1 \"a\""), ("/", 1, "type 1 \"b\""))], &[0.0]);
    check_close(&[two(("/", 1, "scroll down"), ("/", 1, "scroll down"))], &[0.0]);
}

/// PilotRL, 2508.00344, equations 2 to 4, with x / max for adherence and end to end, and (mean - 1) / 4 for the plan.
#[test]
fn pilotrl_has_a_mix_for_each_stage() {
    let mut verdicts = Verdicts {
        end_to_end: judged(1.0),
        plan_quality: judged(PlanScores { correctness: 5.0, executability: 4.0, standardization: 3.0 }),
        adherence: vec![judged(2.0), None, judged(1.0), judged(0.0)],
        ..Verdicts::default()
    };
    let played = episode_of(4, true);
    for (preset, want) in [(Preset::Pilotrl1, 1.0 + 0.5 + 0.5), (Preset::Pilotrl2, 1.0 + 0.5 + 0.75), (Preset::Pilotrl3, 1.5)] {
        check_total(&played, &verdicts, &preset.config(), want);
    }
    for (over, want) in [(StepAggregation::Mean, 0.5), (StepAggregation::Last, 0.0), (StepAggregation::Sum, 1.5)] {
        check_total(&played, &verdicts, &RewardConfig { adherence_over: over, ..Preset::Pilotrl1.config() }, 1.5 + want);
    }
    let mut malformed = played.clone();
    malformed.stop = Some(Stop::Malformed("cannot read turn".into()));
    verdicts.end_to_end = judged(0.0);
    check_total(&malformed, &verdicts, &Preset::Pilotrl3.config(), 0.0);
    // Without any output that could be parsed (no plan and no action) the reward is the lowest of all, and not missing.
    (malformed.steps, malformed.plans) = (Vec::new(), Vec::new());
    let nothing = Verdicts { end_to_end: judged(0.0), ..Verdicts::default() };
    for preset in [Preset::Pilotrl1, Preset::Pilotrl2, Preset::Pilotrl3] {
        check_total(&malformed, &nothing, &preset.config(), 0.0);
    }
    // If there is a plan but no verdict on it, the verdict stays missing.
    malformed.plans = vec![milepost_runtime::Plan::new(milepost_runtime::Plan::parse_steps("answer").unwrap())];
    assert_eq!(compose(&malformed, &nothing, &Preset::Pilotrl2.config()).missing, [name::PLAN_QUALITY]);
}

#[test]
fn a_missing_verdict_is_no_zero() {
    let wanted = [
        (Preset::Pilotrl1, vec![name::END_TO_END, name::ADHERENCE]),
        (Preset::Pilotrl2, vec![name::END_TO_END, name::PLAN_QUALITY]),
        (Preset::Rltr, vec![name::COMPLETENESS]),
        (Preset::Mira, vec![name::POTENTIAL]),
        (Preset::SingleTurn, vec![name::EXPERT_MATCH]),
    ];
    for (preset, missing) in wanted {
        let reward = compose(&episode_of(2, true), &Verdicts::default(), &preset.config());
        assert_eq!((reward.missing.clone(), reward.total()), (missing, None), "{preset:?}");
    }
    let unverified = episode(vec![step("/", 1, "answer", true)], None);
    for preset in [Preset::Outcome, Preset::RltrEndToEnd] {
        assert_eq!(compose(&unverified, &Verdicts::default(), &preset.config()).missing, [name::OUTCOME]);
    }
    let mut broken = episode_of(2, false);
    for stop in [None, Some(Stop::Failed("the browser died".into())), Some(Stop::Cancelled)] {
        broken.stop = stop;
        assert_eq!(compose(&broken, &Verdicts::default(), &Preset::Outcome.config()).total(), None);
    }
}

/// MiRA (2603.19685): labels and shaping, computed by hand.
#[test]
fn mira_shapes_by_progress_between_milestones() {
    let verdicts = milestones(MilestoneSource::Reference, 3, &[2, 4]);
    let reward = compose(&episode_of(9, true), &verdicts, &Preset::Mira.config());
    let shaping: Vec<RewardTerm> = reward.terms.iter().filter(|term| term.name == name::POTENTIAL).cloned().collect();
    check_close(&per_step(&shaping, 9).0, &[0.05, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02]);
    check_close(&[by_name(&reward.terms)[name::POTENTIAL], by_name(&reward.terms)[name::OUTCOME]], &[0.3, 1.0]);
}

/// With the invariant form, the shaping of an episode is `-Φ(s_0)` whatever happens in it; a critic's potential replaces the labels.
#[test]
fn a_critics_potential_is_used_and_its_invariant_form_sums_to_the_first_state() {
    let verdicts = Verdicts { potential: Some(vec![0.2, 0.5, 0.9]), ..Verdicts::default() };
    let invariant = RewardConfig { shaping: Shaping::Invariant { gamma: 1.0 }, ..Preset::Mira.config() };
    check_total(&episode_of(2, true), &verdicts, &Preset::Mira.config(), 1.0 + 0.3 * 0.7);
    check_total(&episode_of(2, true), &verdicts, &invariant, 1.0 - 0.3 * 0.2);
    assert_eq!(compose(&episode_of(3, true), &verdicts, &Preset::Mira.config()).missing, [name::POTENTIAL]);
}

#[test]
fn a_failure_earns_at_most_the_cap_for_its_milestones() {
    let config = RewardConfig { credit: 0.4, ..RewardConfig::default() };
    for (reached, success, want) in [(1, false, 0.1), (4, false, 0.2), (0, false, 0.0), (4, true, 1.0)] {
        let turns: Vec<u32> = (1..=reached).collect();
        check_total(&episode_of(6, success), &milestones(MilestoneSource::Reference, 4, &turns), &config, want);
    }
}

/// The episode records the agent's own plan and the milestones that its checks reached; the reward ignores them.
#[test]
fn a_policy_that_writes_trivial_milestones_gains_nothing() {
    let plain = episode_of(4, false);
    let mut trivial = plain.clone();
    let plan = milepost_runtime::Plan::parse_steps("look => url contains \"/\"\nlook again => text visible \"\"").unwrap();
    trivial.plans.push(milepost_runtime::Plan::new(plan));
    trivial.steps.iter_mut().for_each(|step| step.reached = vec![0, 1]);
    let config = RewardConfig { credit: 0.5, ..Preset::Mira.config() };
    let verdicts = milestones(MilestoneSource::Reference, 2, &[1]);
    assert_eq!(compose(&trivial, &verdicts, &config), compose(&plain, &verdicts, &config));
    let frozen = |generation: &str| milestones(MilestoneSource::Frozen { generation: generation.into() }, 2, &[1, 2]);
    assert_eq!(compose(&trivial, &frozen("acting"), &config).missing, [name::POTENTIAL, name::CREDIT]);
    assert!(compose(&trivial, &frozen("older"), &config).total().is_some());
}

#[test]
fn the_experts_action_is_matched_as_the_key_says() {
    let action = |text: &str| Action::parse(text).unwrap();
    let experts = [action("click 3"), action("type 1 \"Ana  Diaz\"")];
    for (taken, exact, folded) in [("click 3", true, true), ("type 1 \"ana diaz\"", false, true), ("click 4", false, false)] {
        let taken = action(taken);
        assert_eq!((expert_match(&taken, &experts, Match::Exact), expert_match(&taken, &experts, Match::Folded)), (exact, folded));
    }
    let verdicts = Verdicts { experts: vec![Some(vec![action("click 1")]), Some(vec![action("back")]), None], ..Verdicts::default() };
    check_total(&episode_of(3, true), &verdicts, &Preset::SingleTurn.config(), 0.5);
}

#[test]
fn steps_share_the_whole_reward() {
    let mut verdicts = milestones(MilestoneSource::Reference, 3, &[1]);
    verdicts.put(Question::Adherence { step: 1 }, Judged { verdict: Judgement::Adherence(1.0), by: JudgeRef::default() });
    let reward = compose(&episode_of(3, true), &verdicts, &RewardConfig { adherence: 2.0, ..Preset::Mira.config() });
    let (steps, whole) = per_step(&reward.terms, 3);
    check_close(&[steps.iter().sum::<f64>() + whole, steps[1] - steps[0], whole], &[reward.total().unwrap(), 1.0, 1.0]);
    assert_eq!(per_step(&reward.terms, 0), (Vec::new(), reward.total().unwrap()));
}

#[test]
fn presets_are_sound_and_bad_weights_are_refused() {
    for preset in Preset::ALL {
        let config = RewardConfig { shaping: Shaping::Invariant { gamma: 0.9 }, ..preset.config() };
        config.check().unwrap();
        assert_eq!(serde_json::from_str::<RewardConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }
    assert!(serde_json::from_str::<RewardConfig>(r#"{"outcom": 1}"#).is_err());
    let bad = [
        RewardConfig { error: -0.2, ..RewardConfig::default() },
        RewardConfig { outcome: f64::NAN, ..RewardConfig::default() },
        RewardConfig { credit_cap: 1.5, ..RewardConfig::default() },
        RewardConfig { shaping: Shaping::Invariant { gamma: 2.0 }, ..RewardConfig::default() },
    ];
    for (config, key) in bad.iter().zip(["`error`", "`outcome`", "`credit_cap`", "`gamma`"]) {
        assert!(config.check().unwrap_err().to_string().contains(key));
    }
}
