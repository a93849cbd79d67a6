//! The MCP client: connects to servers and offers their tools.

mod connection;
mod schema;

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::{Error, Result, Task, Tool};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::Value;

use super::config::McpServerConfig;
use connection::Connection;

/// The maximum number of characters of a result that the agent reads.
const MAX_TEXT: usize = 2_000;

/// Connects to one server and returns its tools that the configuration names, each with the name `server.tool`.
///
/// # Errors
/// The server's name has other characters than it may have, the server cannot be reached, or it lacks a tool that the configuration names.
pub(super) async fn connect(name: &str, config: &McpServerConfig) -> Result<Vec<Arc<dyn Tool>>> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(Error::BadInput("a server's name has letters, digits, `-` and `_`".into()));
    }
    let connection = Arc::new(Connection::open(config.clone()).await?);
    let offered = connection.tools().await?;
    let wanted = |tool: &str| config.tools.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| wanted == tool));
    if let Some(missing) = config.tools.iter().flatten().find(|wanted| offered.iter().all(|tool| tool.name != **wanted)) {
        let names: Vec<&str> = offered.iter().map(|tool| tool.name.as_ref()).collect();
        return Err(Error::BadInput(format!("it has no tool {missing:?}; these are there: {}", names.join(", "))));
    }
    let usable = |tool: &rmcp::model::Tool| !tool.name.is_empty() && !tool.name.contains(char::is_whitespace);
    let chosen = offered.into_iter().filter(|tool| wanted(&tool.name) && usable(tool));
    let tools = chosen.map(|tool| -> Arc<dyn Tool> {
        Arc::new(McpTool {
            name: format!("{name}.{}", tool.name),
            description: tool.description.as_deref().unwrap_or_default().to_owned(),
            remote: tool.name.into_owned(),
            schema: schema::bounded(&Value::Object((*tool.input_schema).clone())),
            connection: connection.clone(),
        })
    });
    Ok(tools.collect())
}

/// A tool of a server.
struct McpTool {
    /// The name by which the agent calls the tool, `server.tool`.
    name: String,
    /// The name of the tool at its server.
    remote: String,
    /// The server's description of it.
    description: String,
    schema: Value,
    connection: Arc<Connection>,
}

#[async_trait]
impl Tool for McpTool {
    fn form(&self) -> ToolForm {
        ToolForm { name: self.name.clone(), description: self.description.clone(), schema: self.schema.clone() }
    }

    async fn call(&self, arguments: &Value, _: &Task) -> Result<String> {
        let Value::Object(arguments) = arguments else {
            return Err(Error::BadInput(format!("`{}` takes its arguments as an object", self.name)));
        };
        let result = self.connection.call(&self.remote, arguments.clone()).await;
        let result = result.map_err(|error| Error::BadInput(format!("`{}` cannot be called: {error}", self.name)))?;
        let text = readable(&result);
        if result.is_error == Some(true) { Err(Error::BadInput(text)) } else { Ok(text) }
    }
}

/// Returns a result as the agent reads it: its texts, cut to 2,000 characters, with the media type in place of each picture and sound.
fn readable(result: &CallToolResult) -> String {
    let block = |block: &ContentBlock| match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => format!("[a picture, {}]", image.mime_type),
        ContentBlock::Audio(audio) => format!("[a sound, {}]", audio.mime_type),
        ContentBlock::ResourceLink(link) => format!("[{}]", link.uri),
        _ => "[something else]".to_owned(),
    };
    let texts: Vec<String> = result.content.iter().map(block).collect();
    let text = match (&result.structured_content, texts.is_empty()) {
        (Some(value), true) => value.to_string(),
        _ => texts.join("\n"),
    };
    text.chars().take(MAX_TEXT).collect()
}
