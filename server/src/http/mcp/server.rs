//! The MCP server: authenticates the caller of a request, and calls the tool or reads the resource that it names.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::tools::Tools;
use super::{arguments, resources};
use crate::http::auth::{Caller, Scope};
use crate::http::errors::Problem;
use crate::http::state::App;

/// The MCP server; cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    app: App,
    tools: Tools,
    /// The caller of all requests over stdio; `None` over HTTP, where each request carries its caller.
    stdio_caller: Option<Caller>,
}

impl Server {
    /// Makes a server for HTTP, where each request carries its caller.
    pub(super) fn for_http(app: App) -> Self {
        Self { tools: Tools::new(app.clone()), app, stdio_caller: None }
    }

    /// Makes a server for stdio, where all requests come from this caller.
    pub(super) fn for_stdio(app: App, caller: Caller) -> Self {
        Self { tools: Tools::new(app.clone()), app, stdio_caller: Some(caller) }
    }

    /// Returns the request's caller if it has the scope.
    fn caller(&self, context: &RequestContext<RoleServer>, scope: Scope) -> Result<Caller, Problem> {
        let sent = context.extensions.get::<axum::http::request::Parts>().and_then(|parts| parts.extensions.get::<Caller>());
        match sent.or(self.stdio_caller.as_ref()) {
            Some(caller) => caller.clone().require(scope),
            None => Err(Problem::internal(&"an MCP request without a caller")),
        }
    }

    /// Calls the tool that the request names.
    async fn call(&self, request: CallToolRequestParams, context: &RequestContext<RoleServer>) -> Result<CallToolResult, Problem> {
        let invalid = |reason: String| Problem::invalid(reason);
        let arguments = request.arguments;
        match request.name.as_ref() {
            "run_task" => {
                let caller = self.caller(context, Scope::Run)?;
                self.tools.run_task(&caller, arguments::parse(arguments).map_err(invalid)?, context).await
            }
            "task_status" => {
                self.caller(context, Scope::Read)?;
                self.tools.task_status(arguments::parse(arguments).map_err(invalid)?, context).await
            }
            "cancel_task" => {
                self.caller(context, Scope::Run)?;
                self.tools.cancel_task(arguments::parse(arguments).map_err(invalid)?).await
            }
            "observe" => {
                self.caller(context, Scope::Run)?;
                self.tools.observe(arguments::parse(arguments).map_err(invalid)?).await
            }
            other => Err(Problem::missing(format!("there is no tool {other:?}; `tools/list` shows those that there are"))),
        }
    }

    /// Checks that the request's caller may read.
    fn require_reader(&self, context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.caller(context, Scope::Read).map(drop).map_err(|problem| ErrorData::invalid_request(problem.detail, None))
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("milepost", env!("CARGO_PKG_VERSION")))
            .with_instructions("Hand in web tasks with `run_task`; a task that outlasts the wait goes on, and `task_status` tells of it.")
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(arguments::tools()))
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let called = self.call(request, &context).await;
        // A refusal is the tool's result and not a protocol error, so that the client's model reads it.
        Ok(called.unwrap_or_else(|problem| CallToolResult::error(vec![ContentBlock::text(problem.detail)])).into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.require_reader(&context)?;
        Ok(ListResourcesResult::with_all_items(resources::list(&self.app.store).await?))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(vec![resources::template()]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.require_reader(&context)?;
        Ok(resources::read(&self.app.store, &request.uri).await?.into())
    }
}
