//! MCP servers whose tools the agent calls: each is a [`Tool`] named `server.tool`.

mod config;
mod connection;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::{Error, Result, Task, Tool};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::Value;

pub use config::{Approval, McpServerConfig};
use connection::Connection;

/// Most characters of a result that the agent reads.
const MOST_TEXT: usize = 2_000;

/// The tools of all configured servers.
#[derive(Clone, Default)]
pub struct McpTools {
    tools: Vec<Arc<dyn Tool>>,
    /// Names of those that need no person's word.
    allowed: Vec<String>,
}

impl McpTools {
    /// Connects to all servers and asks for their tools.
    ///
    /// # Errors
    /// The first server that cannot be used, by its name, with the reason and what to do.
    pub async fn connect(servers: &BTreeMap<String, McpServerConfig>) -> Result<Self> {
        let mut all = Self::default();
        for (name, config) in servers {
            let refuse = |error: Error| match error {
                Error::BadInput(reason) => Error::BadInput(format!("`mcp.{name}`: {reason}")),
                error => {
                    Error::Environment(format!("`mcp.{name}`: {error}; start or mend that server, or take it out of the configuration"))
                }
            };
            for tool in server(name, config).await.map_err(refuse)? {
                if config.approval == Approval::Allow {
                    all.allowed.push(tool.name.clone());
                }
                all.tools.push(Arc::new(tool));
            }
        }
        Ok(all)
    }

    /// The tools.
    pub fn tools(&self) -> impl Iterator<Item = Arc<dyn Tool>> + '_ {
        self.tools.iter().cloned()
    }

    /// Adds the tools that need no person's word to what a task may call; the others are asked about, since they are outside it.
    pub fn allow(&self, task: &mut Task) {
        task.capability.tools.extend(self.allowed.iter().cloned());
    }
}

async fn server(name: &str, config: &McpServerConfig) -> Result<Vec<McpTool>> {
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
    let made = chosen.map(|tool| McpTool {
        name: format!("{name}.{}", tool.name),
        remote: tool.name.into_owned(),
        schema: schema::bounded(&Value::Object((*tool.input_schema).clone())),
        connection: connection.clone(),
    });
    Ok(made.collect())
}

/// A tool of a server.
struct McpTool {
    name: String,
    /// Its name there.
    remote: String,
    schema: Value,
    connection: Arc<Connection>,
}

#[async_trait]
impl Tool for McpTool {
    fn form(&self) -> ToolForm {
        ToolForm { name: self.name.clone(), schema: self.schema.clone() }
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

/// A result as the agent reads it: texts as they are, at most 2,000 characters; pictures and sounds by their type only.
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
    text.chars().take(MOST_TEXT).collect()
}
