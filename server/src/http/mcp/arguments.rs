//! The descriptions of the tools, which clients list, and the types of their arguments.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The default wait of `run_task`: less than the minute after which many clients time out.
const DEFAULT_WAIT_SECONDS: u64 = 50;
/// The maximum wait of a call.
const MAX_WAIT_SECONDS: u64 = 3600;

/// Arguments of the tool `run_task`, which [`tools`] describes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunTask {
    #[serde(default = "default_wait_seconds")]
    wait_seconds: u64,
    goal: String,
    url: String,
    #[serde(default)]
    hosts: Vec<String>,
    max_steps: Option<u32>,
    planner: Option<Value>,
    check: Option<Value>,
    output_schema: Option<Value>,
    secrets: Option<Value>,
    idempotency_key: Option<Value>,
}

/// Returns the default of `wait_seconds`.
fn default_wait_seconds() -> u64 {
    DEFAULT_WAIT_SECONDS
}

impl RunTask {
    /// Returns the number of seconds to wait for the task's end.
    pub(super) fn wait_seconds(&self) -> u64 {
        self.wait_seconds.min(MAX_WAIT_SECONDS)
    }

    /// Returns the task as a JSON body of `POST /v1/tasks`.
    pub(super) fn into_new_task(self) -> Value {
        let mut task = Map::from_iter([("goal".to_owned(), Value::from(self.goal)), ("url".to_owned(), self.url.into())]);
        if !self.hosts.is_empty() {
            task.insert("capability".into(), json!({ "hosts": self.hosts }));
        }
        if let Some(max_steps) = self.max_steps {
            task.insert("limits".into(), json!({ "max_steps": max_steps }));
        }
        let rest = [
            ("planner", self.planner),
            ("check", self.check),
            ("output_schema", self.output_schema),
            ("secrets", self.secrets),
            ("idempotency_key", self.idempotency_key),
        ];
        task.extend(rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Value::Object(task)
    }
}

/// Arguments of the tool `task_status`, which [`tools`] describes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskStatus {
    pub(super) id: String,
    #[serde(default)]
    wait_seconds: u64,
}

impl TaskStatus {
    /// Returns the number of seconds to wait for the task's end.
    pub(super) fn wait_seconds(&self) -> u64 {
        self.wait_seconds.min(MAX_WAIT_SECONDS)
    }
}

/// Arguments of the tool `cancel_task`, which [`tools`] describes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelTask {
    pub(super) id: String,
}

/// Arguments of the tool `observe`, which [`tools`] describes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Observe {
    pub(super) url: String,
}

/// Parses the arguments of a tool; the error says what is wrong with them.
pub(super) fn parse<T: DeserializeOwned>(arguments: Option<JsonObject>) -> Result<T, String> {
    serde_json::from_value(Value::Object(arguments.unwrap_or_default())).map_err(|error| format!("the arguments cannot be read: {error}"))
}

/// Returns a tool with this name, description and schema of its arguments.
fn tool(name: &'static str, description: &'static str, properties: &Value, required: &[&str], hints: ToolAnnotations) -> Tool {
    let schema = json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    let Value::Object(schema) = schema else { return Tool::new(name, description, JsonObject::new()) };
    Tool::new(name, description, Arc::new(schema)).with_annotations(hints)
}

/// Returns the descriptions of all tools.
pub(super) fn tools() -> Vec<Tool> {
    let id = json!({ "type": "string", "description": "The task's id" });
    let wait = |default: u64| {
        json!({ "type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": default,
            "description": "Wait so many seconds for the end; 0 returns at once" })
    };
    let run = json!({
        "goal": { "type": "string", "description": "What should be done, in words" },
        "url": { "type": "string", "format": "uri", "description": "Where to begin (http or https)" },
        "wait_seconds": wait(DEFAULT_WAIT_SECONDS),
        "hosts": { "type": "array", "items": { "type": "string" }, "description": "More hosts that may be reached (name, name:port or *.suffix); the address's own always may" },
        "max_steps": { "type": "integer", "minimum": 1, "description": "Most actions" },
        "planner": { "enum": ["adaplan", "subgoal", "frozen", "react"] },
        "check": { "type": "string", "description": "Your own definition of done, as in: text visible \"Order placed\"" },
        "output_schema": { "type": "object", "description": "JSON schema of the output that is wanted beside the answer's text" },
        "secrets": { "type": "array", "items": { "type": "string" }, "description": "Names of configured secrets that may be typed" },
        "idempotency_key": { "type": "string", "description": "The same key and arguments are the same task" },
    });
    let writes = ToolAnnotations::default().read_only(false).open_world(true);
    let reads = || ToolAnnotations::default().read_only(true);
    vec![
        tool(
            "run_task",
            "Carry out a web task in a browser: plan, act, check, answer. Returns the task; one that has not ended goes on, and `task_status` tells of it.",
            &run,
            &["goal", "url"],
            writes,
        ),
        tool(
            "task_status",
            "How a task stands, with its answer where it has ended.",
            &json!({ "id": id, "wait_seconds": wait(0) }),
            &["id"],
            reads(),
        ),
        tool(
            "cancel_task",
            "Cancel a task.",
            &json!({ "id": id }),
            &["id"],
            ToolAnnotations::default().read_only(false).destructive(false).idempotent(true),
        ),
        tool(
            "observe",
            "Open a page in a fresh browser and show it as the agent's model sees it: its elements by id, and its text.",
            &json!({ "url": { "type": "string", "format": "uri", "description": "The page (http or https)" } }),
            &["url"],
            reads().open_world(true),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::rest::NewTask;
    use crate::http::router::schemas;

    /// `RunTask` has a field for every argument in the schema of `run_task`, and passes it on to the task.
    #[test]
    fn every_argument_of_the_schema_is_parsed() {
        let arguments = json!({ "goal": "Buy tea", "url": "http://a.example/", "wait_seconds": 0, "hosts": ["b.example"], "max_steps": 9, "planner": "react",
            "check": "url contains \"done\"", "output_schema": { "type": "object" }, "secrets": ["pin"], "idempotency_key": "k" });
        let tools = tools();
        let properties = tools[0].input_schema["properties"].as_object().unwrap();
        assert_eq!(properties.keys().collect::<Vec<_>>(), arguments.as_object().unwrap().keys().collect::<Vec<_>>());
        let run: RunTask = parse(arguments.as_object().cloned()).unwrap();
        assert_eq!(run.wait_seconds(), 0);
        let task: NewTask = schemas().read(run.into_new_task().to_string().as_bytes()).unwrap();
        assert_eq!((task.goal.as_str(), task.secrets.len(), task.limits.max_steps), ("Buy tea", 1, Some(9)));
        assert!(parse::<RunTask>(json!({ "goal": "x", "url": "y", "planer": 1 }).as_object().cloned()).unwrap_err().contains("planer"));
    }
}
