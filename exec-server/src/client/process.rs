//! A program on the server's machine: its events, its input, its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::calls::Retry;
use super::error::ClientError;
use super::inbox::ProcessInbox;
use super::session::Client;
use super::shared::Shared;
use crate::environment::ProcessEvent;
use crate::protocol::process::{
    CloseStdin, CloseStdinParams, ExitDetails, Resize, ResizeParams, Signal, SignalName, SignalParams, Start,
    StartParams, Terminate, TerminateParams, Write, WriteParams, WriteStatus,
};
use crate::protocol::{ErrorCode, ProcessId, RpcError};

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// As in section 8.6; old servers give -1 for a signal.
    pub code: i32,
    /// All zero from servers that do not say.
    pub details: ExitDetails,
}

/// A started program. Dropping it before its end terminates it.
pub struct RemoteProcess {
    control: ProcessControl,
    pub(super) inbox: Arc<ProcessInbox>,
    over: bool,
}

/// Input and signals for a program, for use beside [`RemoteProcess::next`].
#[derive(Clone)]
pub struct ProcessControl {
    shared: Arc<Shared>,
    process_id: ProcessId,
    writes: Arc<AtomicU64>,
}

impl Client {
    /// Starts a program and follows its output. The id is free to choose within the session.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when the id is followed already; else as for [`Client::call`]. When the connection is lost
    /// before the answer came, the program is terminated should it have started.
    pub async fn start(&self, params: StartParams) -> Result<RemoteProcess, ClientError> {
        let inbox = Arc::new(ProcessInbox::new());
        // Registered first: a notification may precede the answer (section 6).
        self.shared.add_process(&params.process_id, &inbox)?;
        let control = ProcessControl {
            shared: Arc::clone(&self.shared),
            process_id: params.process_id.as_str().into(),
            writes: Arc::default(),
        };
        let mut process = RemoteProcess { control, inbox, over: false };
        match self.shared.call::<Start>(&params, Retry::Never).await {
            Ok(_) => Ok(process),
            // Dropping the handle of a start whose outcome is unknown terminates it.
            Err(error @ (ClientError::Lost(_) | ClientError::Answer { .. })) => Err(error),
            Err(error) => {
                process.over = true;
                Err(error)
            }
        }
    }
}

impl RemoteProcess {
    /// The id that the program was started under.
    pub fn id(&self) -> &str {
        &self.control.process_id
    }

    /// A handle for input and signals that other tasks may use meanwhile.
    pub fn control(&self) -> ProcessControl {
        self.control.clone()
    }

    /// The next event in order; none after `Closed` or `Disconnected`. Cancel-safe.
    pub async fn next(&mut self) -> Option<ProcessEvent> {
        let event = self.inbox.queue.next().await;
        self.over |= matches!(event, None | Some(ProcessEvent::Closed));
        event
    }

    /// Waits for the program's end; its output is dropped.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the end can't be known any more.
    pub async fn wait(&mut self) -> Result<Exit, ClientError> {
        loop {
            match self.next().await {
                Some(ProcessEvent::Exited { code, details }) => return Ok(Exit { code, details }),
                Some(ProcessEvent::Disconnected { reason }) => return Err(ClientError::Lost(reason)),
                Some(_) => {}
                None => return Err(ClientError::Lost("the program's end was reported before".into())),
            }
        }
    }
}

impl Drop for RemoteProcess {
    fn drop(&mut self) {
        self.inbox.queue.abandon();
        self.control.shared.remove_process(&self.control.process_id, !self.over);
    }
}

impl ProcessControl {
    /// Writes to stdin or the terminal; repeated without harm when the connection is resumed meanwhile. Waits as long
    /// as the server's queue for the program is full.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub async fn write(&self, bytes: Vec<u8>) -> Result<WriteStatus, ClientError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let params = WriteParams {
            process_id: self.process_id.clone(),
            chunk: bytes.into(),
            write_id: Some(number.to_string()),
            eof: false,
            session_id: None,
            attachment_id: None,
        };
        self.shared.call::<Write>(&params, Retry::Safe).await.map(|result| result.status)
    }

    /// Ends the program's stdin after what was written.
    ///
    /// # Errors
    /// As for [`Client::call`]; a server without this extension is named as the reason.
    pub async fn close_stdin(&self) -> Result<(), ClientError> {
        let params = CloseStdinParams { process_id: self.process_id.clone(), session_id: None };
        let answer = self.shared.call::<CloseStdin>(&params, Retry::Never).await;
        explain("can't end a program's standard input", answer).map(drop)
    }

    /// Sends a signal to the program's process group.
    ///
    /// # Errors
    /// As for [`Client::call`]; a server that does not know signals, or this one, is named as the reason.
    pub async fn signal(&self, signal: SignalName) -> Result<(), ClientError> {
        let params = SignalParams { process_id: self.process_id.clone(), signal, session_id: None };
        let answer = self.shared.call::<Signal>(&params, Retry::Never).await;
        explain("can't send this signal", answer).map(drop)
    }

    /// Ends the program and its tree: with `grace_ms` by SIGTERM first, where the server knows that. True if it ran.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub async fn terminate(&self, grace_ms: Option<u64>) -> Result<bool, ClientError> {
        let params = TerminateParams { process_id: self.process_id.clone(), grace_ms, session_id: None };
        self.shared.call::<Terminate>(&params, Retry::Safe).await.map(|result| result.running)
    }

    /// Changes the terminal's size.
    ///
    /// # Errors
    /// As for [`Client::call`]; a server without this extension is named as the reason.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<(), ClientError> {
        let params = ResizeParams { process_id: self.process_id.clone(), rows, cols, session_id: None };
        let answer = self.shared.call::<Resize>(&params, Retry::Never).await;
        explain("can't change a terminal's size", answer).map(drop)
    }
}

/// Says in words that the server is older than the method or the word.
fn explain<T>(what: &str, answer: Result<T, ClientError>) -> Result<T, ClientError> {
    answer.map_err(|error| match error {
        ClientError::Rpc(RpcError { code, message, .. })
            if [ErrorCode::METHOD_NOT_FOUND, ErrorCode::INVALID_PARAMS].contains(&code) =>
        {
            ClientError::Rpc(RpcError::new(code, format!("this exec-server {what}: {message}")))
        }
        error => error,
    })
}
