//! Other people's MCP servers as tools of the agent: a server written with the official SDK, and the daemon itself over HTTP.

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

fn desk() -> McpServerConfig {
    McpServerConfig {
        command: Some(python().display().to_string()),
        args: vec![script("mcp_server.py").display().to_string()],
        env: BTreeMap::from([("DESK".into(), "desk 7".into())]),
        ..McpServerConfig::default()
    }
}

async fn connect(config: McpServerConfig) -> milepost_runtime::Result<McpTools> {
    McpTools::connect(&BTreeMap::from([("desk".to_owned(), config)])).await
}

fn named(tools: &McpTools, name: &str) -> Arc<dyn Tool> {
    tools.tools().find(|tool| tool.form().name == name).unwrap()
}

async fn call(tools: &McpTools, name: &str, arguments: Value) -> Result<String, String> {
    let task = Task::new("look", "http://127.0.0.1/").unwrap();
    named(tools, name).call(&arguments, &task).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_official_sdk_is_a_set_of_tools() {
    let tools = connect(desk()).await.unwrap();
    let names: Vec<String> = tools.tools().map(|tool| tool.form().name).collect();
    assert_eq!(names, ["desk.lookup", "desk.broken", "desk.leave"]);
    assert_eq!(call(&tools, "desk.lookup", json!({ "customer": "ada" })).await.unwrap(), "ada: all (desk 7)");
    let fields = json!({ "customer": "ada", "fields": ["city", "phone"] });
    assert_eq!(call(&tools, "desk.lookup", fields).await.unwrap(), "ada: city, phone (desk 7)");
    assert!(call(&tools, "desk.broken", json!({})).await.unwrap_err().contains("the desk is closed"));
    // The next call finds the server again, but a call that broke off is not repeated.
    call(&tools, "desk.leave", json!({})).await.unwrap_err();
    assert_eq!(call(&tools, "desk.lookup", json!({ "customer": "bo" })).await.unwrap(), "bo: all (desk 7)");
}

/// The schemas that the SDK writes become grammars that the seed model's tokenizer can hold.
#[tokio::test(flavor = "multi_thread")]
async fn its_schemas_become_the_grammar_of_a_turn() {
    let tools = connect(desk()).await.unwrap();
    let forms: Vec<_> = tools.tools().map(|tool| tool.form()).collect();
    let rules = action_rules(&Observation::default(), &ActionForms { kinds: &[ActionKind::Call], tools: &forms, ..ActionForms::default() });
    let text = TextModel::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed"))).unwrap();
    let compiler = GrammarCompiler::new(&text).unwrap();
    let grammar = Grammar(format!("start: action\n{rules}"));
    let accepts = |line: &str| {
        let mut machine = compiler.matcher(&grammar).unwrap();
        text.tokenizer.encode_plain(line).unwrap().into_iter().all(|token| machine.advance(token).is_ok()) && machine.accepting()
    };
    assert!(accepts(r#"call desk.lookup {"customer":"ada","fields":["city"]}"#));
    assert!(accepts(r#"call desk.lookup {"customer":"ada","fields":null}"#));
    assert!(accepts("call desk.broken {}"));
    assert!(!accepts(r#"call desk.lookup {"customer":"ada","fields":["name"]}"#));
    assert!(!accepts(r#"call desk.lookup {"fields":["city"]}"#));
    assert!(!accepts("call desk.other {}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_allowed_is_in_the_capability_and_others_ask() {
    let mut task = Task::new("look", "http://127.0.0.1/").unwrap();
    let only = |approval| McpServerConfig { tools: Some(vec!["lookup".into()]), approval, ..desk() };
    let asking = connect(only(Approval::Ask)).await.unwrap();
    asking.allow(&mut task);
    assert_eq!((asking.tools().count(), task.capability.tools.clone()), (1, vec!["fetch".to_owned()]));
    connect(only(Approval::Allow)).await.unwrap().allow(&mut task);
    assert_eq!(task.capability.tools, ["fetch", "desk.lookup"]);
}

async fn check_refusal(config: McpServerConfig, says: &[&str]) {
    let error = connect(config).await.err().unwrap().to_string();
    assert!(error.contains("`mcp.desk`") && says.iter().all(|part| error.contains(part)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_used_is_one_clear_error() {
    let bare = McpServerConfig::default;
    let at = |url: &str| McpServerConfig { url: Some(url.parse().unwrap()), ..bare() };
    check_refusal(bare(), &["`command` or `url`"]).await;
    check_refusal(McpServerConfig { command: Some("no-such-server".into()), ..bare() }, &["no-such-server", "cannot be started"]).await;
    check_refusal(McpServerConfig { command: Some("true".into()), ..bare() }, &["true", "mend that server"]).await;
    check_refusal(McpServerConfig { tools: Some(vec!["nothing".into()]), ..desk() }, &["\"nothing\"", "lookup"]).await;
    check_refusal(McpServerConfig { env: BTreeMap::from([("A".into(), "env:NOT_SET_ANYWHERE".into())]), ..desk() }, &["NOT_SET_ANYWHERE"])
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

/// The daemon's own tools, over HTTP with a token out of the environment; and the daemon with a server in its configuration.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_is_a_server_and_a_client() {
    let directory = tempfile::tempdir().unwrap();
    let server = format!("{{desk={{command={:?}, args=[{:?}], tools=[\"lookup\"]}}}}", desk().command.unwrap(), desk().args[0]);
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[("MILEPOST_MCP", &server)]));
    let url = Some(format!("{}/mcp", daemon.address).parse().unwrap());
    let nameless = connect(McpServerConfig { url, ..McpServerConfig::default() }).await.err().unwrap().to_string();
    assert!(nameless.contains("`mcp.desk`"), "{nameless}");
    // The second daemon starts only if the first one lists its tools to it.
    let servers = format!("{{first={{url=\"{}/mcp\", bearer_env=\"FIRST_TOKEN\", tools=[\"observe\", \"run_task\"]}}}}", daemon.address);
    let beside = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_MCP", servers.as_str()), ("FIRST_TOKEN", &daemon.token)];
    let second = tokio::task::block_in_place(|| Daemon::start(beside.path(), &settings));
    second.get("/readyz").await;
}
