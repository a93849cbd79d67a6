//! The protocol's side: who calls, what there is, and which tool is meant.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::Semaphore;

use super::{arguments, resources};
use crate::serve::App;
use crate::serve::auth::{Caller, Scope};
use crate::serve::problem::Problem;

/// The MCP server; cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) app: App,
    /// Who calls over stdio; over HTTP each request carries its caller.
    local: Option<Caller>,
    /// `observe` opens at most as many browsers as there are workers.
    pub(super) looking: Arc<Semaphore>,
}

impl Server {
    /// A server of this app; `local` is who calls where requests carry no caller.
    pub(super) fn new(app: App, local: Option<Caller>) -> Self {
        let looking = Arc::new(Semaphore::new(app.config.service.workers.max(1)));
        Self { app, local, looking }
    }

    /// Who calls, where their token allows it.
    fn caller(&self, context: &RequestContext<RoleServer>, scope: Scope) -> Result<Caller, Problem> {
        let sent = context.extensions.get::<axum::http::request::Parts>().and_then(|parts| parts.extensions.get::<Caller>());
        match sent.or(self.local.as_ref()) {
            Some(caller) => caller.clone().require(scope),
            None => Err(Problem::internal(&"an MCP request without a caller")),
        }
    }

    async fn call(&self, request: CallToolRequestParams, context: &RequestContext<RoleServer>) -> Result<CallToolResult, Problem> {
        let invalid = |reason: String| Problem::invalid(reason);
        let arguments = request.arguments;
        match request.name.as_ref() {
            "run_task" => {
                let caller = self.caller(context, Scope::Run)?;
                self.run_task(&caller, arguments::read(arguments).map_err(invalid)?, context).await
            }
            "task_status" => {
                self.caller(context, Scope::Read)?;
                self.task_status(arguments::read(arguments).map_err(invalid)?, context).await
            }
            "cancel_task" => {
                self.caller(context, Scope::Run)?;
                self.cancel_task(arguments::read(arguments).map_err(invalid)?).await
            }
            "observe" => {
                self.caller(context, Scope::Run)?;
                self.observe(arguments::read(arguments).map_err(invalid)?).await
            }
            other => Err(Problem::missing(format!("there is no tool {other:?}; `tools/list` shows those that there are"))),
        }
    }

    fn reads(&self, context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
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
        let said = self.call(request, &context).await;
        // What a tool refuses is for the model to read.
        Ok(said.unwrap_or_else(|problem| CallToolResult::error(vec![ContentBlock::text(problem.detail)])).into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.reads(&context)?;
        Ok(ListResourcesResult::with_all_items(self.episodes().await?))
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
        self.reads(&context)?;
        Ok(self.episode(&request.uri).await?.into())
    }
}
