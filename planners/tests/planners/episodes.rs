//! Whole episodes: what each planner may do, and how episodes end.

use std::sync::Arc;

use milepost_planners::{ModelPolicy, ModelVerifier, PlannerKind, PlannersConfig, Prompts, ReviseMode};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{Agent, Engine, Episode, EpisodeStore, NoListener, Overseer, Role, SqliteStore, StepStatus, Stop, Task, Verifier};

use tokio_util::sync::CancellationToken;

use super::scripted::{ScriptedEngine, Site};

pub const PLAN: &str = "open the cart => url contains \"/cart\"\npay => text visible \"thank you\"\nanswer\nend";

/// A played episode, as the loop returned it and as the store recorded it.
pub struct Played {
    pub episode: Episode,
    pub engine: Arc<ScriptedEngine>,
    recorded: Episode,
    resets: usize,
}

/// The setup of an episode.
pub struct Setup {
    pub kind: PlannerKind,
    pub config: PlannersConfig,
    pub site: Site,
    /// The maximum length of a prompt in bytes.
    pub max_prompt_bytes: Option<usize>,
    pub cancelled: bool,
    pub verify: bool,
    pub max_steps: u32,
    pub limits_seconds: u64,
    pub overseer: Option<Box<dyn Overseer>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            kind: PlannerKind::Adaplan,
            config: PlannersConfig::default(),
            site: Site::default(),
            max_prompt_bytes: None,
            cancelled: false,
            verify: false,
            max_steps: 20,
            limits_seconds: 600,
            overseer: None,
        }
    }
}

pub async fn play(setup: Setup, answers: &[&str]) -> Played {
    let Setup { kind, config, mut site, max_prompt_bytes, cancelled, verify, max_steps, limits_seconds, overseer } = setup;
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let engine = Arc::new(ScriptedEngine::new(answers, max_prompt_bytes));
    let shared: Arc<dyn Engine> = engine.clone();
    let prompts = Arc::new(Prompts::new(&config).unwrap());
    let verifier = ModelVerifier::new(shared.clone(), prompts.clone());
    let policy = ModelPolicy::new(shared, prompts, kind, config);
    let mut task = Task::new("Buy the mug.", "http://shop.local/home").unwrap();
    task.limits.max_steps = max_steps;
    task.limits.max_seconds = limits_seconds;
    let cancel = CancellationToken::new();
    if cancelled {
        cancel.cancel();
    }
    let agent = Agent {
        policy: &policy,
        verifier: verify.then_some(&verifier as &dyn Verifier),
        environment: &mut site,
        tools: &[],
        store: &store,
        listener: &mut NoListener,
        overseer: overseer.as_deref(),
        cancel,
        screenshots: Screenshots::Off,
        generation: "script".into(),
        seed: 1,
    };
    let episode = agent.run(task).await.unwrap();
    let recorded = store.load(&episode.id).await.unwrap().unwrap();
    Played { episode, engine, recorded, resets: site.resets }
}

fn steps(episode: &Episode, version: usize) -> Vec<(&str, StepStatus)> {
    episode.plans[version].steps.iter().map(|step| (step.text.as_str(), step.status)).collect()
}

#[tokio::test]
async fn adaplan_revises_the_suffix_and_keeps_what_was_done_and_what_failed() {
    use StepStatus::{Done, Failed, Pending};
    let revision = "revise\npay now => text visible \"thank you\"\nresume 3\nclick \"done\" 4";
    let played =
        play(Setup::default(), &[PLAN, "keep\nclick \"cart\" 3", "keep\ntype \"Search\" 1 \"x\"", revision, "keep\nanswer", "42"]).await;
    let episode = &played.episode;
    assert_eq!((episode.stop.as_ref(), episode.answer.as_deref()), (Some(&Stop::Answered), Some("42")));
    assert_eq!(steps(episode, 0), [("open the cart", Done), ("pay", Pending), ("answer", Pending)]);
    assert_eq!(steps(episode, 1), [("open the cart", Done), ("pay", Failed), ("pay now", Done), ("answer", Pending)]);
    assert_eq!(episode.steps.iter().map(|step| step.plan_version).collect::<Vec<_>>(), [1, 1, 2, 2]);
    assert_eq!(played.recorded.plans, episode.plans, "both versions are recorded as they stood");
    let call = &episode.steps[2].calls[0];
    let spans: Vec<_> = call.spans.iter().map(|span| (span.role, span.start, span.end)).collect();
    let action = revision.rfind('\n').unwrap() + 1;
    assert_eq!(spans, [(Role::Planner, 0, action), (Role::Executor, action, revision.len())]);
}

#[tokio::test]
async fn frozen_cannot_revise_and_react_has_no_plan() {
    let frozen = Setup { kind: PlannerKind::Frozen, ..Setup::default() };
    let played = play(frozen, &[PLAN, "keep\nclick \"cart\" 3", "keep\nclick \"done\" 4", "keep\nanswer", "42"]).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered));
    assert!(played.engine.requests()[1].grammar.as_ref().unwrap().0.starts_with("start: \"keep\\n\" action\n"));

    let react = Setup { kind: PlannerKind::React, ..Setup::default() };
    let played = play(react, &["click \"cart\" 3", "click \"done\" 4", "answer", "42"]).await;
    assert_eq!((played.episode.stop.as_ref(), played.episode.plans.len()), (Some(&Stop::Answered), 0));
    assert!(played.engine.requests()[0].grammar.as_ref().unwrap().0.starts_with("start: action\n"));
    assert!(played.engine.prompt(2).contains("did click link \"cart\"\ndid click link \"done\""));
}

#[tokio::test]
async fn subgoal_revises_on_a_stall_only() {
    let again = "keep\ntype \"Search\" 1 \"x\"";
    let revision = "revise\nanswer\nend\nanswer";
    for (revise, stalled) in [(ReviseMode::Joint, &[revision][..]), (ReviseMode::Separate, &["revise\nanswer\nend", "keep\nanswer"])] {
        let config = PlannersConfig { revise, ..PlannersConfig::default() };
        let setup = Setup { kind: PlannerKind::Subgoal, config, ..Setup::default() };
        let played = play(setup, &[&[PLAN, again, again, again, again], stalled, &["42"]].concat()).await;
        assert_eq!((played.episode.stop.as_ref(), played.episode.plans.len()), (Some(&Stop::Answered), 2), "{revise:?}");
        let requests = played.engine.requests();
        let may_revise: Vec<bool> = requests[1..6].iter().map(|request| request.grammar.as_ref().unwrap().0.contains("revise")).collect();
        assert_eq!(may_revise, [false, false, false, false, true], "{revise:?}");
        let told: Vec<bool> = (1..6).map(|n| played.engine.prompt(n).contains("stalled")).collect();
        assert_eq!(told, may_revise, "{revise:?}");
    }
}

#[tokio::test]
async fn revision_and_action_can_be_two_calls() {
    let config = PlannersConfig { revise: ReviseMode::Separate, ..PlannersConfig::default() };
    let answers = [PLAN, "keep", "keep\nclick \"cart\" 3", "revise\nanswer\nend", "keep\nanswer", "42"];
    let played = play(Setup { config, ..Setup::default() }, &answers).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered));
    let roles: Vec<Role> = played.engine.requests().iter().map(|request| request.role).collect();
    use Role::{Executor, Planner, Summarizer};
    assert_eq!(roles, [Planner, Planner, Executor, Planner, Executor, Summarizer]);
    assert!(played.engine.prompt(4).contains("now answer"), "the executor sees the revised plan");
}

#[tokio::test]
async fn an_action_outside_the_capability_waits_for_a_person() {
    let played = play(Setup::default(), &[PLAN, "keep\ngoto \"http://evil.local/\""]).await;
    let Some(Stop::NeedsApproval(reason)) = &played.episode.stop else { panic!("{:?}", played.episode.stop) };
    assert!(reason.contains("evil.local"), "{reason}");
    assert!(!played.episode.steps[0].outcome.ok && played.recorded.steps.len() == 1);
}

#[tokio::test]
async fn the_first_stall_is_shown_in_the_prompt_and_the_second_ends_the_episode() {
    let again = "keep\ntype \"Search\" 1 \"x\"";
    let played = play(Setup::default(), &[&[PLAN], &[again; 8][..]].concat()).await;
    assert!(matches!(played.episode.stop, Some(Stop::NoProgress(_))), "{:?}", played.episode.stop);
    let stalled = (1..played.engine.requests().len()).filter(|&n| played.engine.prompt(n).contains("stalled")).count();
    assert_eq!(stalled, 1);
}

#[tokio::test]
async fn a_verifier_decides_milestones_without_a_check() {
    let plan = "open the cart\nanswer\nend";
    let answers = [plan, "keep\nclick \"cart\" 3", "no", "keep\nclick \"cart\" 3", "yes", "keep\nanswer", "42"];
    let played = play(Setup { verify: true, ..Setup::default() }, &answers).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered));
    assert_eq!(played.episode.steps.iter().map(|step| step.reached.len()).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(played.recorded.calls.iter().filter(|call| call.role == Role::Verifier).count(), 2);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_sent_again_with_less_of_the_page() {
    let config = PlannersConfig { page_lines: 200, ..PlannersConfig::default() };
    let played = play(Setup { config, max_prompt_bytes: Some(10), ..Setup::default() }, &[PLAN]).await;
    let Some(Stop::Failed(reason)) = &played.episode.stop else { panic!("{:?}", played.episode.stop) };
    assert!(reason.contains("policy.page_lines"), "{reason}");
}

#[tokio::test]
async fn a_dead_browser_is_started_once_more() {
    let answers = [PLAN, "keep\nclick \"cart\" 3", "keep\nclick \"done\" 4", "keep\nanswer", "42"];
    let played = play(Setup { site: Site::with_crashes(1), ..Setup::default() }, &answers).await;
    assert_eq!((played.episode.stop.as_ref(), played.resets), (Some(&Stop::Answered), 2));
    let again = [PLAN, "keep\nclick \"cart\" 3", "keep\nclick \"cart\" 3"];
    let played = play(Setup { site: Site::with_crashes(2), ..Setup::default() }, &again).await;
    let Some(Stop::Failed(reason)) = &played.episode.stop else { panic!("{:?}", played.episode.stop) };
    assert!(reason.contains("the browser was killed"));
    assert_eq!(played.recorded.steps.len(), 2, "the steps before it are recorded");
}

#[tokio::test]
async fn limits_and_cancellation_end_cleanly() {
    let played = play(Setup { max_steps: 1, ..Setup::default() }, &[PLAN, "keep\nclick \"cart\" 3"]).await;
    assert_eq!(played.recorded.stop, Some(Stop::StepLimit));
    let played = play(Setup { cancelled: true, ..Setup::default() }, &[]).await;
    assert_eq!(played.recorded.stop, Some(Stop::Cancelled));
}

#[tokio::test]
async fn an_invalid_action_is_recorded_and_the_agent_goes_on() {
    let played = play(Setup::default(), &[PLAN, "keep\nclick \"ghost\" 99", "keep\nanswer", "42"]).await;
    let outcome = &played.recorded.steps[0].outcome;
    assert!(!outcome.ok && outcome.error.as_ref().unwrap().starts_with("invalid:"), "{outcome:?}");
    assert_eq!(played.episode.stop, Some(Stop::Answered));
}

#[tokio::test]
async fn an_answer_that_cannot_be_parsed_ends_as_malformed_and_an_engine_error_as_failed() {
    let played = play(Setup::default(), &[PLAN, "keep\nclick the cart"]).await;
    assert!(matches!(played.episode.stop, Some(Stop::Malformed(_))), "{:?}", played.episode.stop);
    assert_eq!(played.recorded.stop, played.episode.stop);
    // The call that could not be parsed is recorded, because a learner needs it.
    assert_eq!(played.recorded.calls.last().map(|call| call.role), Some(milepost_runtime::Role::Executor));
    let played = play(Setup::default(), &[PLAN]).await;
    assert!(matches!(played.episode.stop, Some(Stop::Failed(_))), "{:?}", played.episode.stop);
}
