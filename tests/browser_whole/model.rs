//! The binary with the seed model in Chromium: a few episodes of the suite with each planner, and the programs in `examples/`.

use serde_json::Value;

#[test]
fn the_seed_model_decodes_no_invalid_action_with_any_planner() {
    let directory = tempfile::tempdir().unwrap();
    for planner in ["adaplan", "frozen", "react"] {
        let episodes = if planner == "adaplan" { "4" } else { "1" };
        let output = super::milepost(directory.path(), &["suite", "run", "--planner", planner, "--episodes", episodes, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["invalid_actions"], 0, "{report}");
        if planner == "adaplan" {
            assert_eq!(report["milestones"]["premature"], 0, "{report}");
            assert!(report["levels"]["easy"]["solved"].as_u64().unwrap() >= 2, "the seed model solves most easy tasks: {report}");
        }
    }
}

#[test]
fn the_examples_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let examples = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    for (name, expected) in [("custom_tool", "19.75"), ("run_task", "solved, by the site's own state: ")] {
        let mut command = super::command(directory.path(), &[]);
        let environment: Vec<_> = command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        command = std::process::Command::new(examples.join(name));
        let output = command.current_dir(directory.path()).envs(environment).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains(expected), "{name}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
    }
}
