//! A server of the Model Context Protocol that runs as a program of an environment, spoken to over its stdin and stdout.

use codex_exec_protocol::ProcessId;
use codex_exec_protocol::process::{CloseStdinParams, StartParams, Stream, WriteParams};
use codex_exec_server::environment::{CallError, Environment, Events, ProcessEvent};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinSet;

/// Bytes on their way in each direction; then the side that sends waits. Chosen for speed.
const BUFFER: usize = 64 << 10;

/// Both ends of a server's pipes, as a transport of `rmcp`. Dropping it ends the server.
#[derive(Debug)]
pub struct ProgramTransport {
    /// What the server writes.
    pub stdout: ReadHalf<DuplexStream>,
    /// What it reads.
    pub stdin: WriteHalf<DuplexStream>,
    carriers: JoinSet<()>,
}

impl ProgramTransport {
    /// The two streams that `rmcp`'s client takes, and what has to be kept as long as the server is to run.
    pub fn into_parts(self) -> ((ReadHalf<DuplexStream>, WriteHalf<DuplexStream>), impl Send + 'static) {
        ((self.stdout, self.stdin), self.carriers)
    }
}

/// Starts a server in an environment. Its id is chosen here, its stdin is a pipe, and what it says on stderr is logged.
///
/// # Errors
/// As for a program's start.
pub async fn start_server(
    environment: &Environment,
    mut params: StartParams,
) -> Result<ProgramTransport, CallError> {
    let id = ProcessId::from(format!("mcp-{}", uuid::Uuid::new_v4().simple()));
    params.process_id = id.clone();
    params.pipe_stdin = true;
    params.tty = false;
    let events = environment.processes.follow(params).await?;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (from_client, to_client) = tokio::io::split(theirs);
    let (stdout, stdin) = tokio::io::split(ours);
    let mut carriers = JoinSet::new();
    carriers.spawn(carry_output(events, to_client));
    carriers.spawn(carry_input(environment.clone(), id, from_client));
    Ok(ProgramTransport { stdout, stdin, carriers })
}

async fn carry_output(mut events: Events, mut to: WriteHalf<DuplexStream>) {
    while let Some(event) = events.next().await {
        match event {
            ProcessEvent::Output { stream: Stream::Stderr, bytes } => {
                tracing::debug!(text = %String::from_utf8_lossy(&bytes), "an MCP server says");
            }
            ProcessEvent::Output { bytes, .. } => {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            // What is missing can't be made up for: the messages are no messages any more.
            ProcessEvent::Lost { .. } | ProcessEvent::Exited { .. } => {}
            ProcessEvent::Closed | ProcessEvent::Disconnected { .. } => break,
        }
    }
    // The client reads the end of the stream.
    let _ = to.shutdown().await;
}

async fn carry_input(environment: Environment, process_id: ProcessId, mut from: ReadHalf<DuplexStream>) {
    let mut buffer = vec![0; BUFFER];
    for number in 1_u64.. {
        let count = match from.read(&mut buffer).await {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        let chunk = buffer.get(..count).unwrap_or_default().to_vec().into();
        let params = WriteParams {
            process_id: process_id.clone(),
            chunk,
            write_id: Some(number.to_string()),
            eof: false,
            session_id: None,
            attachment_id: None,
        };
        if environment.processes.write(params).await.is_err() {
            return;
        }
    }
    // A server ends by itself when its input does; one that does not ends with the transport.
    let _ = environment.processes.close_stdin(CloseStdinParams { process_id, session_id: None }).await;
}
