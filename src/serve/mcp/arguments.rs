//! The tools as clients see them, and their arguments.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Below the minute after which many clients give up.
const WAIT_SECONDS: u64 = 50;
/// Longest wait.
const MOST_SECONDS: u64 = 3600;

/// Arguments of `run_task`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunTask {
    #[serde(default = "wait_seconds")]
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

fn wait_seconds() -> u64 {
    WAIT_SECONDS
}

impl RunTask {
    /// Seconds to wait for the end.
    pub(super) fn wait(&self) -> u64 {
        self.wait_seconds.min(MOST_SECONDS)
    }

    /// The task as it would be handed in over HTTP.
    pub(super) fn task(self) -> Value {
        let mut task = Map::from_iter([("goal".to_owned(), Value::from(self.goal)), ("url".to_owned(), self.url.into())]);
        if !self.hosts.is_empty() {
            task.insert("capability".into(), json!({ "hosts": self.hosts }));
        }
        if let Some(most) = self.max_steps {
            task.insert("limits".into(), json!({ "max_steps": most }));
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

/// Arguments of `task_status`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskStatus {
    pub(super) id: String,
    #[serde(default)]
    wait_seconds: u64,
}

impl TaskStatus {
    /// Seconds to wait for the end.
    pub(super) fn wait(&self) -> u64 {
        self.wait_seconds.min(MOST_SECONDS)
    }
}

/// Arguments of `cancel_task`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelTask {
    pub(super) id: String,
}

/// Arguments of `observe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Observe {
    pub(super) url: String,
}

/// Reads a tool's arguments.
pub(super) fn read<T: DeserializeOwned>(arguments: Option<JsonObject>) -> Result<T, String> {
    serde_json::from_value(Value::Object(arguments.unwrap_or_default())).map_err(|error| format!("the arguments cannot be read: {error}"))
}

fn tool(name: &'static str, description: &'static str, properties: &Value, required: &[&str], hints: ToolAnnotations) -> Tool {
    let schema = json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    let Value::Object(schema) = schema else { return Tool::new(name, description, JsonObject::new()) };
    Tool::new(name, description, Arc::new(schema)).with_annotations(hints)
}

/// All tools.
pub(super) fn tools() -> Vec<Tool> {
    let id = json!({ "type": "string", "description": "The task's id" });
    let wait = |default: u64| {
        json!({ "type": "integer", "minimum": 0, "maximum": MOST_SECONDS, "default": default,
            "description": "Wait so many seconds for the end; 0 returns at once" })
    };
    let run = json!({
        "goal": { "type": "string", "description": "What should be done, in words" },
        "url": { "type": "string", "format": "uri", "description": "Where to begin (http or https)" },
        "wait_seconds": wait(WAIT_SECONDS),
        "hosts": { "type": "array", "items": { "type": "string" }, "description": "More hosts that may be reached (name, name:port or *.suffix); the address's own always may" },
        "max_steps": { "type": "integer", "minimum": 1, "description": "Most actions" },
        "planner": { "enum": ["adaplan", "subgoal", "frozen", "react"] },
        "check": { "type": "string", "description": "Your own definition of done, as in: text visible \"Order placed\"" },
        "output_schema": { "type": "object", "description": "JSON schema of the output that is wanted beside the answer's text" },
        "secrets": { "type": "array", "items": { "type": "string" }, "description": "Names of configured secrets that may be typed" },
        "idempotency_key": { "type": "string", "description": "The same key and arguments are the same task" },
    });
    let acts = ToolAnnotations::default().read_only(false).open_world(true);
    let looks = || ToolAnnotations::default().read_only(true);
    vec![
        tool(
            "run_task",
            "Carry out a web task in a browser: plan, act, check, answer. Returns the task; one that has not ended goes on, and `task_status` tells of it.",
            &run,
            &["goal", "url"],
            acts,
        ),
        tool(
            "task_status",
            "How a task stands, with its answer where it has ended.",
            &json!({ "id": id, "wait_seconds": wait(0) }),
            &["id"],
            looks(),
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
            looks().open_world(true),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::payload;
    use crate::serve::rest::NewTask;

    /// Every argument that the schema of `run_task` offers is one that is read and handed in.
    #[test]
    fn what_is_offered_is_read() {
        let arguments = json!({ "goal": "Buy tea", "url": "http://a.example/", "wait_seconds": 0, "hosts": ["b.example"], "max_steps": 9, "planner": "react",
            "check": "url contains \"done\"", "output_schema": { "type": "object" }, "secrets": ["pin"], "idempotency_key": "k" });
        let tools = tools();
        let offered = tools[0].input_schema["properties"].as_object().unwrap();
        assert_eq!(offered.keys().collect::<Vec<_>>(), arguments.as_object().unwrap().keys().collect::<Vec<_>>());
        let run: RunTask = read(arguments.as_object().cloned()).unwrap();
        assert_eq!(run.wait(), 0);
        let task: NewTask = payload::read(run.task().to_string().as_bytes()).unwrap();
        assert_eq!((task.goal.as_str(), task.secrets.len(), task.limits.max_steps), ("Buy tea", 1, Some(9)));
        assert!(read::<RunTask>(json!({ "goal": "x", "url": "y", "planer": 1 }).as_object().cloned()).unwrap_err().contains("planer"));
    }
}
