//! What the model reads and may write, as snapshots.

use milepost_planners::{PlannerKind, PlannersConfig, PromptProfile, Prompts, turn_completion};
use milepost_runtime::action::{ActionForms, action_rules, shared_rules};
use milepost_runtime::plan::VerdictBy;
use milepost_runtime::{Action, Context, Element, Environment, Observation, Plan, Planned, Revision, State, Task, Verdict};

use super::scripted::Site;

async fn page() -> Observation {
    let mut page = Site::default().observe().await.unwrap();
    page.elements.push(Element { id: 9, role: "button".into(), name: "home".into(), ..Element::default() });
    page.elements.push(Element { id: 10, role: "button".into(), name: "Off".into(), state: vec![State::Disabled], ..Element::default() });
    let options = vec!["Oslo".into(), "Rome".into()];
    page.elements.push(Element {
        id: 11,
        role: "combobox".into(),
        name: "City".into(),
        value: Some("Oslo".into()),
        options,
        ..Element::default()
    });
    page.text.push_str("\n[#9] [#10] [#11]");
    page
}

fn plan() -> Plan {
    let line = |text| Planned::parse(text).unwrap();
    let mut plan =
        Plan::new(vec![line("open the cart => url contains \"/cart\""), line("pay => text visible \"thank you\""), line("answer")]);
    plan.executed(0);
    plan.settle(Verdict::True, VerdictBy::Check, 0);
    plan
}

/// All prompts of a profile, one after the other.
async fn prompts(profile: PromptProfile) -> String {
    let config = PlannersConfig { prompt_profile: profile, ..PlannersConfig::default() };
    let prompts = Prompts::new(&config).unwrap();
    let (task, plan, page) = (Task::new("Buy the mug.", "http://shop.local/home").unwrap(), plan(), page().await);
    let context = Context { task: &task, plan: &plan, steps: &[], observation: &page, tools: &[], stalled: true, messages: &[], seed: 0 };
    let all = [
        prompts.plan(context, 60).unwrap(),
        prompts.turn(context, PlannerKind::Adaplan, 60).unwrap(),
        prompts.turn(context, PlannerKind::Subgoal, 60).unwrap(),
        prompts.turn(context, PlannerKind::React, 60).unwrap(),
        prompts.answer(context, 60).unwrap(),
        prompts.verify(&plan.steps[1].milestone, &page).unwrap(),
    ];
    let text = |messages: &Vec<milepost_runtime::Message>| messages.iter().map(|m| m.content.clone()).collect::<Vec<_>>().join("\n---\n");
    all.iter().map(text).collect::<Vec<_>>().join("\n==========\n")
}

#[tokio::test]
async fn prompts_of_both_profiles() {
    insta::assert_snapshot!("seed", prompts(PromptProfile::Seed).await);
    insta::assert_snapshot!("instruct", prompts(PromptProfile::Instruct).await);
}

/// The seed model was trained on the prompts of `adaplan`; the checklist is for models that read, and for a stall.
#[tokio::test]
async fn the_checklist_is_for_stalls_and_never_for_the_seed_model() {
    let (task, plan, page) = (Task::new("Buy the mug.", "http://shop.local/home").unwrap(), plan(), page().await);
    for (profile, stalled, same) in [
        (PromptProfile::Seed, true, true),
        (PromptProfile::Seed, false, true),
        (PromptProfile::Instruct, false, true),
        (PromptProfile::Instruct, true, false),
    ] {
        let prompts = Prompts::new(&PlannersConfig { prompt_profile: profile, ..PlannersConfig::default() }).unwrap();
        let context = Context { task: &task, plan: &plan, steps: &[], observation: &page, tools: &[], stalled, messages: &[], seed: 0 };
        let text = |kind| prompts.turn(context, kind, 60).unwrap().into_iter().map(|message| message.content).collect::<Vec<_>>();
        assert_eq!(text(PlannerKind::Subgoal) == text(PlannerKind::Adaplan), same, "{profile:?} {stalled}");
    }
}

#[tokio::test]
async fn the_grammar_of_a_turn_allows_what_exists_now() {
    let task = Task::new("x", "http://shop.local/").unwrap();
    let page = page().await;
    let mut text = Revision::rules(&plan());
    for profile in [PromptProfile::Seed, PromptProfile::Instruct] {
        let forms = ActionForms {
            kinds: &task.capability.action_kinds,
            tools: &[],
            answer_text: PlannersConfig::default().answer_by,
            naming: profile.naming(),
        };
        text.push_str(&format!("\n\n# {}\n{}", profile.word(), action_rules(&page, &forms)));
    }
    insta::assert_snapshot!("grammar", format!("{text}\n\n{}", shared_rules()));
}

#[tokio::test]
async fn a_completion_names_its_element_as_the_profile_does() {
    let page = page().await;
    let written = |profile: PromptProfile| turn_completion(&Revision::Keep, &Action::Click(9), &page, true, profile.naming());
    assert_eq!(written(PromptProfile::Seed), "keep\nclick \"home\" 9");
    assert_eq!(written(PromptProfile::Instruct), "keep\nclick 9");
}

#[test]
fn another_prompt_is_another_generation() {
    let hash = |config: &PlannersConfig| Prompts::new(config).unwrap().hash().to_owned();
    let base = PlannersConfig::default();
    assert_ne!(hash(&base), hash(&PlannersConfig { page_lines: 30, ..base.clone() }));
    assert_ne!(hash(&base), hash(&PlannersConfig { prompt_profile: PromptProfile::Instruct, ..base.clone() }));
}
