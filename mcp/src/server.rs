//! What is lent, and how it answers in the Model Context Protocol.

use std::sync::Arc;

use codex_exec_protocol::sandbox::{Access, FileSystem, Network, Permissions, Profile};
use rmcp::RoleServer;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CreateTaskResult, CustomRequest, CustomResult,
    ErrorCode, ErrorData, GetTaskParams, GetTaskResult, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, UpdateTaskParams,
};
use rmcp::service::RequestContext;

use crate::catalog::{self, Setting};
use crate::environments::Environments;
use crate::lent::Lent;
use crate::limits::Limits;
use crate::outcome::{self, Refused, Reply};
use crate::places::Confinement;
use crate::tasks::Tasks;
use crate::tools::{self, Call};

/// What models are told before they use the tools.
const INSTRUCTIONS: &str = "Tools for a machine that may be another one than yours. Programs outlive a call: exec answers \
    after yield_ms at the latest, and a program that still runs is followed with exec_read by its process id. exec_list \
    finds the ids again. Cursors are positions in all that a program printed.";

/// Environments as tools. Clones share them; each connection of a client gets one.
#[derive(Clone)]
pub struct Lender(Arc<Lent>);

impl std::fmt::Debug for Lender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lender").field("environments", &self.0.environments).finish_non_exhaustive()
    }
}

impl Lender {
    /// Lends environments, as far as `confinement` allows. `version` is told to clients.
    pub fn new(
        environments: Environments,
        confinement: Confinement,
        limits: Limits,
        version: impl Into<String>,
    ) -> Self {
        let permissions = confinement.permissions.as_ref();
        let setting = Setting {
            several: environments.names().count() > 1,
            sandboxed: permissions.is_some(),
            harmless: permissions.is_some_and(is_harmless),
        };
        let tools = catalog::tools(setting);
        Self(Arc::new(Lent {
            environments,
            confinement,
            limits,
            version: version.into(),
            tools,
            tasks: Tasks::default(),
        }))
    }

    /// Ends the connections to the environments, and what runs there.
    pub async fn close(&self) {
        self.0.environments.close().await;
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

/// Whether a profile lets nothing be written, and no other machine be reached.
fn is_harmless(permissions: &Permissions) -> bool {
    match permissions {
        Permissions::Tagged(Profile::Managed {
            network: Network::Restricted,
            file_system: FileSystem::Restricted { entries, .. },
        }) => entries.iter().all(|entry| entry.access != Access::Write),
        _ => false,
    }
}

impl ServerHandler for Lender {
    fn get_info(&self) -> ServerConfig {
        let implementation = Implementation::new("codex-exec-server", self.0.version.clone())
            .with_title("Programs, files and HTTP of a machine");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
            .with_server_info(implementation)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let unknown = || {
            let name: String = request.name.chars().take(80).collect();
            ErrorData::invalid_params(
                format!("there is no tool {name:?}; tools/list tells which there are"),
                None,
            )
        };
        if self.get_tool(&request.name).is_none() {
            return Err(unknown());
        }
        let call = Call { lender: &self.0, context: &context };
        let arguments = request.arguments.clone().unwrap_or_default();
        let given_up = || Some(Err(Refused::because("the call was given up; what it started goes on")));
        // One that was given up gets no place that comes free for it at the same time.
        let outcome = tokio::select! {
            biased;
            () = context.ct.cancelled() => given_up(),
            outcome = tools::run(&call, &request.name, arguments) => outcome,
        };
        let outcome = match outcome.ok_or_else(unknown)? {
            Ok(Reply::Begun(task)) => return Ok(CallToolResponse::Task(CreateTaskResult::new(task))),
            Ok(Reply::Done(outcome)) => Ok(outcome),
            Err(refused) => Err(refused),
        };
        Ok(CallToolResponse::from(outcome::result(outcome)))
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        // The library takes what it can't read for a method of ours.
        if request.method == "tools/call" {
            let wanted = "tools/call takes a name, and arguments that are an object";
            return Err(ErrorData::invalid_params(wanted, None));
        }
        let method: String = request.method.chars().take(80).collect();
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("there is no method {method:?}"), None))
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let Lent { tasks, environments, limits, .. } = &*self.0;
        Ok(GetTaskResult::new(tasks.get(environments, limits, &request.task_id).await?))
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let Lent { tasks, environments, limits, .. } = &*self.0;
        tasks.update(environments, limits, &request.task_id).await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let Lent { tasks, environments, limits, .. } = &*self.0;
        tasks.cancel(environments, limits, &request.task_id).await
    }
}
