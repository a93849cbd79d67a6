//! Prompts and grammars as snapshots, and prompt templates from a directory.

use milepost_planners::{PlannerKind, PlannersConfig, PromptProfile, Prompts, turn_completion};
use milepost_runtime::action::{ActionForms, action_rules, shared_rules};
use milepost_runtime::plan::VerdictBy;
use milepost_runtime::{Action, Context, Element, Environment, Observation, Plan, Planned, Revision, State, Task, Verdict};

use super::scripted::Site;

/// The hashes of the built-in prompts with the default settings. If a hash changed, no recorded generation would match its prompts any
/// more.
const BUILT_IN_HASHES: [(PromptProfile, &str); 2] =
    [(PromptProfile::Seed, "66ef2de112e994e5"), (PromptProfile::Instruct, "7f97d9c72ec55137")];

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
    plan.mark_executed(0);
    plan.record_verdict(Verdict::True, VerdictBy::Check, 0);
    plan
}

/// Renders all prompts of a profile, one after the other.
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

/// The seed model was trained on the prompts of `adaplan`, so the checklist is only for general models, and only on a stall.
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

/// A configuration whose prompts come from a directory with these files.
fn with_directory(prompt_profile: PromptProfile, files: &[(&str, &str)]) -> (tempfile::TempDir, PlannersConfig) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let config = PlannersConfig { prompt_profile, prompts: Some(directory.path().to_owned()), ..PlannersConfig::default() };
    (directory, config)
}

#[test]
fn the_built_in_prompts_keep_their_hashes() {
    for (prompt_profile, hash) in BUILT_IN_HASHES {
        let config = PlannersConfig { prompt_profile, ..PlannersConfig::default() };
        assert_eq!(Prompts::new(&config).unwrap().hash(), hash, "{prompt_profile:?}");
        // An empty directory leaves all built-in templates; files that are no templates do not count.
        let (_directory, config) = with_directory(prompt_profile, &[("notes.txt", "mine")]);
        assert_eq!(Prompts::new(&config).unwrap().hash(), hash, "{prompt_profile:?}");
    }
}

#[tokio::test]
async fn a_template_of_the_directory_replaces_the_built_in_one() {
    for (prompt_profile, hash) in BUILT_IN_HASHES {
        let (_directory, config) = with_directory(prompt_profile, &[("verify.jinja", "rules\n---\nIs it true? {{ milestone }}")]);
        let (prompts, built_in) = (Prompts::new(&config).unwrap(), Prompts::new(&PlannersConfig { prompts: None, ..config }).unwrap());
        assert_ne!(prompts.hash(), hash, "{prompt_profile:?}");
        let (task, plan, page) = (Task::new("Buy the mug.", "http://shop.local/home").unwrap(), plan(), page().await);
        let texts = |messages: Vec<milepost_runtime::Message>| messages.into_iter().map(|message| message.content).collect::<Vec<_>>();
        assert_eq!(texts(prompts.verify(&plan.steps[1].milestone, &page).unwrap()), ["rules", "Is it true? pay"]);
        let context =
            Context { task: &task, plan: &plan, steps: &[], observation: &page, tools: &[], stalled: false, messages: &[], seed: 0 };
        assert_eq!(texts(prompts.plan(context, 60).unwrap()), texts(built_in.plan(context, 60).unwrap()), "the others stay");
    }
}

#[test]
fn a_directory_of_prompts_that_cannot_be_used_names_the_file_and_the_fix() {
    let error = |config: &PlannersConfig| match Prompts::new(config).err().unwrap() {
        milepost_runtime::Error::BadInput(reason) => reason,
        other => panic!("{other}"),
    };
    let (_directory, config) = with_directory(PromptProfile::Seed, &[("trun.jinja", "act")]);
    let unknown = error(&config);
    assert!(unknown.contains("trun.jinja") && unknown.contains("turn.jinja") && unknown.contains("rename"), "{unknown}");
    let (_directory, config) = with_directory(PromptProfile::Seed, &[("plan.jinja", "{% if %}")]);
    let broken = error(&config);
    assert!(broken.contains("plan.jinja") && broken.contains("correct it"), "{broken}");
    let absent = error(&PlannersConfig { prompts: Some("/nowhere/prompts".into()), ..PlannersConfig::default() });
    assert!(absent.contains("`policy.prompts`") && absent.contains("/nowhere/prompts") && absent.contains("null"), "{absent}");
}
