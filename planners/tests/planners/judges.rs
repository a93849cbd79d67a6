//! The model judge on a scripted engine: its prompts, how answers are parsed, missing verdicts, and the cache.

use std::sync::Arc;

use milepost_planners::{CachedJudge, JudgeConfig, ModelJudge};
use milepost_runtime::{
    Action, Environment, Episode, Judge, Judged, Judgement, Outcome, Plan, PlanScores, Question, Result, Revision, Step, Stop, Task,
};

use super::scripted::{ScriptedEngine, Site};

const PLAN: &str = "open the cart => url contains \"/cart\"\npay => text visible \"thank you\"\nanswer";

async fn episode() -> Episode {
    let mut task = Task::new("Buy the mug.", "http://shop.local/home").unwrap();
    task.capability.tools = vec!["fetch".into()];
    let mut episode = Episode::begin(task, "adaplan", "acting");
    episode.plans.push(Plan::new(Plan::parse_steps(PLAN).unwrap()));
    let mut site = Site::default();
    for (turn, action, outcome) in
        [(0, "click 3", Outcome::done()), (1, "click 9", Outcome::failed("invalid: no such element")), (2, "answer", Outcome::done())]
    {
        let observation = site.observe().await.unwrap();
        // This executor writes the answer's text itself.
        let action = match Action::parse(action).unwrap() {
            Action::Answer { .. } => Action::Answer { text: Some("the magic word".into()) },
            action => action,
        };
        site.act(&Action::Click(3)).await.unwrap();
        episode.last_observation = Some(observation.clone());
        episode.steps.push(Step {
            turn,
            observation,
            revision: Revision::Keep,
            plan_version: 1,
            cursor: usize::from(turn > 0),
            action,
            outcome,
            calls: Vec::new(),
            reached: Vec::new(),
            timing: Default::default(),
            screenshot: None,
        });
    }
    (episode.answer, episode.stop) = (Some("the magic word".into()), Some(Stop::Answered));
    episode
}

fn judge(answers: &[&str]) -> (Arc<ScriptedEngine>, ModelJudge) {
    let engine = Arc::new(ScriptedEngine::new(answers, None));
    (engine.clone(), ModelJudge::new(engine, JudgeConfig::default()).unwrap())
}

async fn ask(question: Question, answers: &[&str]) -> Result<Judged<Judgement>> {
    judge(answers).1.judge(&episode().await, question).await
}

#[tokio::test]
async fn the_prompts_of_a_judge() {
    let (engine, judge) = judge(&["1"; 12]);
    let episode = episode().await;
    let questions = [Question::Completeness, Question::Adherence { step: 1 }, Question::EndToEnd, Question::PlanQuality];
    let mut shown = Vec::new();
    for question in questions {
        let before = engine.requests().len();
        judge.judge(&episode, question).await.ok();
        let grammar = engine.requests()[before].grammar.clone().unwrap();
        shown.push(format!("{}\n# {}", engine.prompt(before), grammar.0));
    }
    insta::assert_snapshot!("judge", shown.join("\n==========\n"));
    assert!(!shown[0].contains("magic") && !shown[0].contains("thank you") && !shown[0].contains("welcome"), "{}", shown[0]);
    let seeds: Vec<u64> = engine.requests()[..3].iter().map(|request| request.seed).collect();
    assert_eq!(seeds, [0, 1, 2]);
}

#[tokio::test]
async fn samples_are_combined() {
    let check = async |question, answers: &[&str], want: Judgement| {
        let judged = ask(question, answers).await.unwrap();
        assert_eq!((judged.verdict, judged.by.samples, judged.by.parsed, judged.by.failed), (want, 3, 3, 0));
    };
    check(Question::Completeness, &["1", "0", "<think>0 of 5</think>So: 1"], Judgement::Completeness(vec![true, false, true])).await;
    check(Question::Adherence { step: 0 }, &["2", "2", "1"], Judgement::Adherence(5.0 / 3.0)).await;
    check(Question::EndToEnd, &["0", "1", "2"], Judgement::EndToEnd(1.0)).await;
    let scores = |a, b, c| format!("{{\"correctness_score\": {a}, \"followability_score\": {b}, \"standardization_score\": {c}}}");
    let (one, two, three) = (scores(5, 4, 1), scores(4, 4, 1), scores(3, 4, 4));
    let want = PlanScores { correctness: 4.0, executability: 4.0, standardization: 2.0 };
    check(Question::PlanQuality, &[&one, &two, &three], Judgement::PlanQuality(want)).await;
}

#[tokio::test]
async fn a_failed_sample_is_missing_and_not_zero() {
    let judged = ask(Question::Completeness, &["1", "perhaps", "1"]).await.unwrap();
    assert_eq!((judged.verdict, judged.by.parsed, judged.by.failed), (Judgement::Completeness(vec![true, true]), 2, 1));
    // The engine fails after the first sample, and from the first sample on.
    assert_eq!(ask(Question::EndToEnd, &["2"]).await.unwrap().by.failed, 2);
    for answers in [&[][..], &["7", "eight", "-"]] {
        assert!(ask(Question::EndToEnd, answers).await.is_err());
    }
    assert!(ask(Question::PlanQuality, &["{\"correctness_score\": 9}", "{", "}"]).await.is_err());
    assert!(ask(Question::Adherence { step: 9 }, &["1"; 3]).await.is_err());
}

#[tokio::test]
async fn a_verdict_is_cached() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("verdicts.jsonl");
    let (first, mut other) = (episode().await, episode().await);
    other.answer = Some("another".into());
    let (engine, inner) = judge(&["1", "1", "0", "2", "2", "2", "0", "0", "0", "0", "0", "0"]);
    let cached = CachedJudge::open(inner, &file).unwrap();
    let asked = async |judge: &dyn Judge, episode: &Episode, question, engine: &ScriptedEngine| {
        let before = engine.requests().len();
        (judge.judge(episode, question).await.unwrap().verdict, engine.requests().len() - before)
    };
    let complete = Judgement::Completeness(vec![true, true, false]);
    assert_eq!(asked(&cached, &first, Question::Completeness, &engine).await, (complete.clone(), 3));
    // The other episode has the same actions; only its answer differs, on which completeness does not depend.
    assert_eq!(asked(&cached, &other, Question::Completeness, &engine).await, (complete.clone(), 0));
    assert_eq!(asked(&cached, &first, Question::EndToEnd, &engine).await, (Judgement::EndToEnd(2.0), 3));
    assert_eq!(asked(&cached, &other, Question::EndToEnd, &engine).await, (Judgement::EndToEnd(0.0), 3));
    other.steps[1].action = Action::Back;
    assert_eq!(asked(&cached, &other, Question::Completeness, &engine).await.1, 3);

    let (engine, inner) = judge(&[]);
    let reopened = CachedJudge::open(inner, &file).unwrap();
    assert_eq!(asked(&reopened, &first, Question::Completeness, &engine).await, (complete, 0));
    // A judge with another number of samples has another identity.
    let engine = Arc::new(ScriptedEngine::new(&["0"], None));
    let inner = ModelJudge::new(engine.clone(), JudgeConfig { samples: 1, ..JudgeConfig::default() }).unwrap();
    let one = CachedJudge::open(inner, &file).unwrap();
    assert_eq!(asked(&one, &first, Question::Completeness, &engine).await, (Judgement::Completeness(vec![false]), 1));
}
