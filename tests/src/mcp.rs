//! Starts `codex exec-server mcp`, and speaks to it with the protocol's own library.

use std::process::Stdio;
use std::sync::Arc;

use codex_exec_server::client::{Client, ClientOptions, Endpoint};
use codex_exec_server::environment::Environment;
use codex_mcp::behind::{EnvironmentHttp, start_server};
use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ProgressNotificationParam,
    ProtocolVersion, Tool,
};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::guarded;
use crate::secrets::Printed;
use crate::{Server, binary};

/// The two ways to begin: that with `initialize`, and that without.
pub const REVISIONS: [Revision; 2] = [Revision::Old, Revision::New];

/// A revision of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// 2025-11-25, with `initialize` and sessions.
    Old,
    /// 2026-07-28, without.
    New,
}

impl Revision {
    fn mode(self) -> ClientLifecycleMode {
        match self {
            Self::Old => ClientLifecycleMode::Initialize,
            Self::New => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        }
    }
}

/// Keeps what a server tells of its progress; the second says whether the client has tasks.
#[derive(Debug, Clone, Default)]
pub struct Listener(pub Arc<Mutex<Vec<ProgressNotificationParam>>>, bool);

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        if self.1 {
            config.capabilities = ClientCapabilities::builder().enable_tasks().build();
        }
        config
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.lock().push(progress);
    }
}

/// A client of the tools.
pub struct McpClient {
    /// The library's own.
    pub service: RunningService<RoleClient, Listener>,
    /// What it hears of progress.
    pub heard: Listener,
    child: Option<Child>,
    _printed: Option<Printed>,
    _kept: Option<Box<dyn Send>>,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::codex());
    command.args(["exec-server", "mcp"]).args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

impl McpClient {
    /// Starts the tools with these arguments, over stdin and stdout.
    pub async fn stdio(revision: Revision, arguments: &[&str]) -> Self {
        Self::of_command(revision, command(arguments), Listener::default()).await
    }

    /// The same with a client that has tasks.
    pub async fn with_tasks(revision: Revision, arguments: &[&str]) -> Self {
        Self::of_command(revision, command(arguments), Listener(Arc::default(), true)).await
    }

    /// The same under these variables.
    pub async fn with_variables(revision: Revision, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        command.envs(variables.iter().copied());
        Self::of_command(revision, command, Listener::default()).await
    }

    async fn of_command(revision: Revision, mut command: Command, heard: Listener) -> Self {
        let printed = Printed::new("the tools' stderr");
        let mut child =
            command.stdin(Stdio::piped()).stderr(printed.stdio()).spawn().expect("the binary starts");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let serving = heard.clone().serve_with_lifecycle((output, input), revision.mode());
        let service = guarded("the handshake", serving).await.expect("the handshake works");
        Self { service, heard, child: Some(child), _printed: Some(printed), _kept: None }
    }

    /// The process id of the tools that it has started.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    /// Calls a tool.
    pub async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        guarded(tool, self.service.call_tool(params)).await.unwrap_or_else(|error| panic!("{tool}: {error}"))
    }

    /// The data of a call that works.
    pub async fn data(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments.clone()).await;
        assert_ne!(result.is_error, Some(true), "{tool} {arguments}: {}", text(&result));
        assert!(!text(&result).is_empty(), "{tool} has no words for a model");
        result.structured_content.unwrap_or_else(|| panic!("{tool} has no data"))
    }

    /// The sentence of a call that is refused.
    pub async fn refusal(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments.clone()).await;
        assert_eq!(result.is_error, Some(true), "{tool} {arguments}: {}", text(&result));
        text(&result)
    }

    /// All tools.
    pub async fn tools(&self) -> Vec<Tool> {
        guarded("tools/list", self.service.list_all_tools()).await.expect("a list")
    }
}

/// The tools over pipes, spoken to without a library.
pub struct RawMcp {
    input: tokio::process::ChildStdin,
    output: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    _child: Child,
    _printed: Printed,
}

impl RawMcp {
    /// Starts them, with a session of the old revision.
    pub async fn start() -> Self {
        let printed = Printed::new("the tools' stderr");
        let mut command = command(&[]);
        let mut child =
            command.stdin(Stdio::piped()).stderr(printed.stdio()).spawn().expect("the binary starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut mcp = Self { input, output, _child: child, _printed: printed };
        mcp.send(initialize().as_bytes()).await;
        assert!(mcp.next().await["result"].is_object(), "the handshake works");
        mcp.send(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        mcp
    }

    /// Sends a line.
    pub async fn send(&mut self, line: &[u8]) {
        self.input.write_all(line).await.expect("it reads");
        self.input.write_all(b"\n").await.expect("it reads");
    }

    /// The next message.
    pub async fn next(&mut self) -> Value {
        let line = guarded("a message", self.output.next_line()).await.expect("stdout is readable");
        serde_json::from_str(&line.expect("it still runs")).expect("a message is JSON")
    }
}

/// The words of a result.
pub fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str()).collect()
}

/// The tools over HTTP, for many clients.
pub struct McpServer {
    /// Its address, with the path.
    pub url: String,
    child: Child,
    _printed: Printed,
}

impl McpServer {
    /// Starts it on a free port of this machine.
    pub async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let printed = Printed::new("the tools' stderr");
        let mut command = command(&[&["--http", "127.0.0.1:0"], arguments].concat());
        command.envs(variables.iter().copied());
        let mut child = command.stderr(printed.stdio()).spawn().expect("the binary starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        guarded("the address", stdout.read_line(&mut line)).await.expect("stdout is readable");
        assert!(line.starts_with("http://127.0.0.1:") && line.ends_with("/mcp\n"), "{line:?}");
        Self { url: line.trim_end().to_owned(), child, _printed: printed }
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/mcp")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// A client whose requests are made by an environment.
    pub async fn client(&self, revision: Revision, way: &EnvironmentHttp, token: Option<&str>) -> McpClient {
        self.client_of(Listener::default(), revision, way, token).await
    }

    /// The same with a client that has tasks.
    pub async fn client_with_tasks(&self, revision: Revision, way: &EnvironmentHttp) -> McpClient {
        self.client_of(Listener(Arc::default(), true), revision, way, None).await
    }

    async fn client_of(
        &self,
        heard: Listener,
        revision: Revision,
        way: &EnvironmentHttp,
        token: Option<&str>,
    ) -> McpClient {
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str());
        if let Some(token) = token {
            config = config.auth_header(token);
        }
        let transport = StreamableHttpClientTransport::with_client(way.clone(), config);
        let serving = heard.clone().serve_with_lifecycle(transport, revision.mode());
        let service = guarded("the handshake", serving).await.expect("the handshake works");
        McpClient { service, heard, child: None, _printed: None, _kept: None }
    }

    /// The status and body of one plain request.
    pub async fn plain(&self, head: &str, body: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(self.authority()).await.expect("it listens");
        let length = body.len();
        let request = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut answer = Vec::new();
        guarded("the answer", tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer))
            .await
            .expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A client of whatever server is at this address, without a token.
pub async fn client_at(url: &str, revision: Revision, way: &EnvironmentHttp) -> McpClient {
    let heard = Listener::default();
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(way.clone(), config);
    let serving = heard.clone().serve_with_lifecycle(transport, revision.mode());
    let service = guarded("the handshake", serving).await.expect("the handshake works");
    McpClient { service, heard, child: None, _printed: None, _kept: None }
}

/// A server's environment, through a websocket.
pub async fn environment(server: &Server) -> Environment {
    let endpoint = Endpoint::WebSocket { url: server.url.clone(), bearer: None };
    let client = Client::connect(endpoint, ClientOptions::default()).await.expect("it can be connected to");
    Environment::remote(client)
}

/// A first message of the old revision.
pub fn initialize() -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
    }})
    .to_string()
}

/// A server that runs as a program of an environment, and its client.
pub async fn spoken_to_as_a_program(
    environment: &Environment,
    revision: Revision,
    argv: &[&str],
) -> McpClient {
    let params =
        json!({"processId": "", "argv": argv, "cwd": "/", "env": {"PATH": "/usr/bin:/bin"}, "tty": false});
    let params = serde_json::from_value(params).expect("params");
    let started = start_server(environment, params).await.expect("it can be started");
    let (transport, kept) = started.into_parts();
    let heard = Listener::default();
    let serving = heard.clone().serve_with_lifecycle(transport, revision.mode());
    let service = guarded("the handshake", serving).await.expect("the handshake works");
    McpClient { service, heard, child: None, _printed: None, _kept: Some(Box::new(kept)) }
}

/// Why there is no conversation with what is at this address.
pub async fn not_spoken_to(url: &str, revision: Revision, way: &EnvironmentHttp) -> String {
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(way.clone(), config);
    let serving = Listener::default().serve_with_lifecycle(transport, revision.mode());
    match guarded("the handshake", serving).await {
        Ok(_) => panic!("{url} speaks the protocol"),
        Err(error) => error.to_string(),
    }
}
