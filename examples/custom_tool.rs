//! A tool of your own: its JSON schema becomes the grammar of its calls, and its text goes into the next observation.
//! `cargo run --example custom_tool`

use anyhow::Result;
use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::{Error, Task, Tool};
use serde_json::{Value, json};

/// Adds numbers, which small models do badly.
struct Sum;

#[async_trait]
impl Tool for Sum {
    fn form(&self) -> ToolForm {
        let schema = json!({
            "type": "object",
            "properties": { "numbers": { "type": "array", "items": { "type": "number" }, "maxItems": 10 } },
            "required": ["numbers"],
            "additionalProperties": false,
        });
        ToolForm { name: "sum".into(), description: "Adds up a list of numbers.".into(), schema }
    }

    async fn call(&self, arguments: &Value, _task: &Task) -> milepost_runtime::Result<String> {
        let numbers =
            arguments["numbers"].as_array().ok_or_else(|| Error::BadInput("`sum` needs the argument `numbers` (a list)".into()))?;
        Ok(numbers.iter().filter_map(Value::as_f64).sum::<f64>().to_string())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // Give it to an agent beside `fetch`: `tools: &[fetch, Arc::new(Sum)]`, and name it in the task's capability.
    let mut task = Task::new("Add up the prices", "http://127.0.0.1:8080/")?;
    task.capability.tools.push("sum".into());
    println!("{}", Sum.form().schema);
    println!("{}", Sum.call(&json!({ "numbers": [12.5, 7.25] }), &task).await?);
    Ok(())
}
