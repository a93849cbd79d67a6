//! MCP servers whose tools the agent calls: a server written with the official SDK, and the daemon itself over HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use milepost_runtime::action::{ActionForms, action_rules};
use milepost_runtime::{ActionKind, Grammar, Observation, Task, Tool};
use milepost_text::{GrammarCompiler, TextModel};
use milepost_tools::mcp::{Approval, McpServerConfig, McpTools};
use serde_json::{Value, json};

use super::clients::{python, script};
use super::harness::Daemon;

/// Returns the configuration of the example server `clients/mcp_server.py`.
fn example_server() -> McpServerConfig {
    McpServerConfig {
        command: Some(python().display().to_string()),
        args: vec![script("mcp_server.py").display().to_string()],
        env: BTreeMap::from([("DESK".into(), "desk 7".into())]),
        ..McpServerConfig::default()
    }
}

/// Connects to a server under the name `desk`.
async fn connect(config: McpServerConfig) -> milepost_runtime::Result<McpTools> {
    McpTools::connect(&BTreeMap::from([("desk".to_owned(), config)])).await
}

fn tool(tools: &McpTools, name: &str) -> Arc<dyn Tool> {
    tools.tools().find(|tool| tool.form().name == name).unwrap()
}

async fn call(tools: &McpTools, name: &str, arguments: Value) -> Result<String, String> {
    let task = Task::new("look", "http://127.0.0.1/").unwrap();
    tool(tools, name).call(&arguments, &task).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_of_a_server_of_the_official_sdk_are_listed_and_called() {
    let tools = connect(example_server()).await.unwrap();
    let names: Vec<String> = tools.tools().map(|tool| tool.form().name).collect();
    assert_eq!(names, ["desk.lookup", "desk.broken", "desk.leave"]);
    let descriptions: Vec<String> = tools.tools().map(|tool| tool.form().description).collect();
    assert_eq!(descriptions, ["Looks up phone and city of a customer.", "Never works.", "Ends the server."]);
    assert_eq!(call(&tools, "desk.lookup", json!({ "customer": "ada" })).await.unwrap(), "ada: all (desk 7)");
    let fields = json!({ "customer": "ada", "fields": ["city", "phone"] });
    assert_eq!(call(&tools, "desk.lookup", fields).await.unwrap(), "ada: city, phone (desk 7)");
    assert!(call(&tools, "desk.broken", json!({})).await.unwrap_err().contains("the desk is closed"));
    // A call during which the server ends fails and is not repeated; the next call starts the server again.
    call(&tools, "desk.leave", json!({})).await.unwrap_err();
    assert_eq!(call(&tools, "desk.lookup", json!({ "customer": "bo" })).await.unwrap(), "bo: all (desk 7)");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grammar_of_a_turn_accepts_exactly_the_calls_that_fit_the_schemas_of_the_sdk() {
    let tools = connect(example_server()).await.unwrap();
    let forms: Vec<_> = tools.tools().map(|tool| tool.form()).collect();
    let rules = action_rules(&Observation::default(), &ActionForms { kinds: &[ActionKind::Call], tools: &forms, ..ActionForms::default() });
    let text = TextModel::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed"))).unwrap();
    let compiler = GrammarCompiler::new(&text).unwrap();
    let grammar = Grammar(format!("start: action\n{rules}"));
    let accepts = |line: &str| {
        let mut matcher = compiler.matcher(&grammar).unwrap();
        text.tokenizer.encode_plain(line).unwrap().into_iter().all(|token| matcher.advance(token).is_ok()) && matcher.accepting()
    };
    assert!(accepts(r#"call desk.lookup {"customer":"ada","fields":["city"]}"#));
    assert!(accepts(r#"call desk.lookup {"customer":"ada","fields":null}"#));
    assert!(accepts("call desk.broken {}"));
    assert!(!accepts(r#"call desk.lookup {"customer":"ada","fields":["name"]}"#));
    assert!(!accepts(r#"call desk.lookup {"fields":["city"]}"#));
    assert!(!accepts("call desk.other {}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tools_with_approval_allow_are_granted_by_the_capability() {
    let mut task = Task::new("look", "http://127.0.0.1/").unwrap();
    let only = |approval| McpServerConfig { tools: Some(vec!["lookup".into()]), approval, ..example_server() };
    let with_ask = connect(only(Approval::Ask)).await.unwrap();
    with_ask.allow(&mut task);
    assert_eq!((with_ask.tools().count(), task.capability.tools.clone()), (1, vec!["fetch".to_owned()]));
    connect(only(Approval::Allow)).await.unwrap().allow(&mut task);
    assert_eq!(task.capability.tools, ["fetch", "desk.lookup"]);
}

/// Checks that a server cannot be used, and that the error names it and contains these texts.
async fn check_refusal(config: McpServerConfig, expected: &[&str]) {
    let error = connect(config).await.err().unwrap().to_string();
    assert!(error.contains("`mcp.desk`") && expected.iter().all(|part| error.contains(part)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_about_a_server_that_cannot_be_used_names_it_and_the_cause() {
    let bare = McpServerConfig::default;
    let at = |url: &str| McpServerConfig { url: Some(url.parse().unwrap()), ..bare() };
    check_refusal(bare(), &["`command` or `url`"]).await;
    check_refusal(McpServerConfig { command: Some("no-such-server".into()), ..bare() }, &["no-such-server", "cannot be started"]).await;
    check_refusal(McpServerConfig { command: Some("true".into()), ..bare() }, &["true", "mend that server"]).await;
    check_refusal(McpServerConfig { tools: Some(vec!["nothing".into()]), ..example_server() }, &["\"nothing\"", "lookup"]).await;
    check_refusal(
        McpServerConfig { env: BTreeMap::from([("A".into(), "env:NOT_SET_ANYWHERE".into())]), ..example_server() },
        &["NOT_SET_ANYWHERE"],
    )
    .await;
    check_refusal(McpServerConfig { bearer_env: Some("NOT_SET_ANYWHERE".into()), ..at("http://127.0.0.1:9/mcp") }, &["NOT_SET_ANYWHERE"])
        .await;
    for url in ["http://127.0.0.1:9/mcp", "https://127.0.0.1:9/mcp"] {
        check_refusal(at(url), &[url, "mend that server"]).await;
    }
    check_refusal(
        McpServerConfig { command: Some("sleep".into()), args: vec!["60".into()], timeout_seconds: 1, ..bare() },
        &["within 1 s"],
    )
    .await;
}

/// The first daemon uses the example server. The second one uses the first over HTTP, with a token from an environment variable.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_uses_another_daemon_as_an_mcp_server() {
    let directory = tempfile::tempdir().unwrap();
    let server =
        format!("{{desk={{command={:?}, args=[{:?}], tools=[\"lookup\"]}}}}", example_server().command.unwrap(), example_server().args[0]);
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[("MILEPOST_MCP", &server)]));
    let url = Some(format!("{}/mcp", daemon.address).parse().unwrap());
    let without_token = connect(McpServerConfig { url, ..McpServerConfig::default() }).await.err().unwrap().to_string();
    assert!(without_token.contains("`mcp.desk`"), "{without_token}");
    // The second daemon becomes ready only if it can list the tools of the first one.
    let servers = format!("{{first={{url=\"{}/mcp\", bearer_env=\"FIRST_TOKEN\", tools=[\"observe\", \"run_task\"]}}}}", daemon.address);
    let second_directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_MCP", servers.as_str()), ("FIRST_TOKEN", &daemon.token)];
    let second = tokio::task::block_in_place(|| Daemon::start(second_directory.path(), &settings));
    second.get("/readyz").await;
}
