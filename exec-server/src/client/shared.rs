//! What a client's handles and its driver share: calls, followers, and the way of each message to them. No I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::calls::{Calls, Retry};
use super::error::ClientError;
use super::inbox::{BodyInbox, ProcessInbox};
use super::options::ClientOptions;
use crate::environment::MissingState;
use crate::protocol::environment::EnvironmentInfo;
use crate::protocol::filesystem::MissingChanged;
use crate::protocol::http::BodyDelta;
use crate::protocol::process::{Closed, Exited, Output};
use crate::protocol::session::InitializeResult;
use crate::protocol::{Incoming, Method, Notification, ProcessId, RequestId, RpcError, SessionId, envelope};

/// What the client's handles and the driver share.
pub(super) struct Shared {
    pub(super) options: ClientOptions,
    pub(super) calls: Mutex<Calls>,
    /// A call has been sent: the reader may go on.
    pub(super) call_sent: Notify,
    pub(super) outgoing: mpsc::Sender<i64>,
    pub(super) processes: Mutex<HashMap<ProcessId, Arc<ProcessInbox>>>,
    pub(super) bodies: Mutex<HashMap<String, Arc<BodyInbox>>>,
    /// Something to end, since nobody holds its handle any more.
    pub(super) orphans: Mutex<Vec<Orphan>>,
    /// Answers to what the server asked, encoded.
    pub(super) answers: Mutex<Vec<Bytes>>,
    /// The writer should look at the two above.
    pub(super) look: Notify,
    pub(super) session: Mutex<Option<InitializeResult>>,
    /// In bytes; some connections carry no longer one.
    pub(super) longest_message: AtomicUsize,
    pub(super) missing: watch::Sender<MissingState>,
    pub(super) finished: watch::Sender<bool>,
    /// Whether there is a connection at the moment.
    pub(super) linked: watch::Sender<bool>,
    /// The session is to go on without us.
    pub(super) leaves: AtomicBool,
}

/// Something on the server whose handle was dropped.
pub(super) enum Orphan {
    /// A program, to be terminated.
    Process(ProcessId),
    /// A stream or listener, to be closed.
    Stream(String),
}

/// Forgets a call whose caller stopped waiting.
struct Forget<'a>(&'a Shared, i64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.calls.lock().forget(self.1);
    }
}

/// What the reader has to do before it reads on.
pub(super) enum After {
    Nothing,
    ProcessRoom(Arc<ProcessInbox>),
    BodyRoom(Arc<BodyInbox>),
}

impl Shared {
    pub(super) fn new(outgoing: mpsc::Sender<i64>, options: ClientOptions) -> Self {
        Self {
            options,
            calls: Mutex::default(),
            call_sent: Notify::new(),
            outgoing,
            processes: Mutex::default(),
            bodies: Mutex::default(),
            orphans: Mutex::default(),
            answers: Mutex::default(),
            look: Notify::new(),
            session: Mutex::default(),
            longest_message: AtomicUsize::new(usize::MAX),
            missing: watch::Sender::new(MissingState::default()),
            finished: watch::Sender::new(false),
            linked: watch::Sender::new(true),
            leaves: AtomicBool::new(false),
        }
    }

    pub(super) fn session_id(&self) -> SessionId {
        self.session.lock().as_ref().map(|session| session.session_id.clone()).unwrap_or_default()
    }

    pub(super) fn environment_info(&self) -> Option<EnvironmentInfo> {
        self.session.lock().as_ref().and_then(|session| session.environment_info.clone())
    }

    pub(super) async fn call<M: Method>(
        &self,
        params: &M::Params,
        retry: Retry,
    ) -> Result<M::Result, ClientError> {
        let lost = |reason: &str| ClientError::Lost(reason.to_owned());
        // The queue's receiver lives as long as the driver, whose end is told by the calls.
        let permit = self.outgoing.reserve().await;
        let (receiver, id) = {
            let mut calls = self.calls.lock();
            if let Some(reason) = calls.ended() {
                return Err(lost(reason));
            }
            let permit = permit.map_err(|_| lost("the connection was closed"))?;
            let id = calls.next_id();
            let mut message = Vec::new();
            envelope::request::<M>(&RequestId::Number(id), params, &mut message);
            self.check_length(message.len())?;
            let receiver = calls.register(id, message.into(), retry);
            permit.send(id);
            (receiver, id)
        };
        let _forget = Forget(self, id);
        let result = receiver.await.map_err(|_| lost("the connection was closed"))??;
        serde_json::from_str(&result)
            .map_err(|error| ClientError::Answer { method: M::NAME, reason: error.to_string() })
    }

    /// A message that the connection can't carry would end it, and again after every resume.
    fn check_length(&self, bytes: usize) -> Result<(), ClientError> {
        let limit = self.longest_message.load(Ordering::Relaxed);
        if bytes <= limit {
            return Ok(());
        }
        Err(ClientError::Usage(format!(
            "a request of {bytes} bytes is longer than the {limit} that this connection carries; send it in parts"
        )))
    }

    pub(super) fn add_process(&self, id: &str, inbox: &Arc<ProcessInbox>) -> Result<(), ClientError> {
        let mut processes = self.processes.lock();
        if processes.contains_key(id) {
            return Err(ClientError::Usage(format!("process {id:?} is followed already; choose another id")));
        }
        processes.insert(id.into(), Arc::clone(inbox));
        Ok(())
    }

    /// Stops following; `terminate` also ends the program.
    pub(super) fn remove_process(&self, id: &str, terminate: bool) {
        self.processes.lock().remove(id);
        if terminate {
            self.leave_behind(Orphan::Process(id.into()));
        }
    }

    /// Has something on the server ended beside.
    pub(super) fn leave_behind(&self, orphan: Orphan) {
        if self.calls.lock().ended().is_none() {
            self.orphans.lock().push(orphan);
            self.look.notify_one();
        }
    }

    pub(super) fn add_body(&self, id: &str, inbox: &Arc<BodyInbox>) -> Result<(), ClientError> {
        let mut bodies = self.bodies.lock();
        if bodies.contains_key(id) {
            return Err(ClientError::Usage(format!("HTTP request {id:?} still streams; choose another id")));
        }
        bodies.insert(id.to_owned(), Arc::clone(inbox));
        Ok(())
    }

    pub(super) fn remove_body(&self, id: &str) {
        self.bodies.lock().remove(id);
    }

    /// Routes one message. An error means that the connection can't be trusted any more.
    pub(super) fn route(&self, message: &str) -> Result<After, String> {
        match Incoming::parse(message.as_bytes()).map_err(|error| error.message)? {
            Incoming::Answer { id: RequestId::Number(id), result } => {
                self.calls.lock().answer(id, Ok(result.to_owned()));
            }
            Incoming::Failure { id: RequestId::Number(id), error } => {
                self.calls.lock().answer(id, Err(error))
            }
            Incoming::Notification { method, params } => return self.notified(&method, params),
            // This client offers the server no methods (section 13 is for those that announced some).
            Incoming::Request { id, method, .. } => {
                let mut answers = self.answers.lock();
                if answers.len() >= self.options.queued_requests {
                    return Err("it asks more than it takes answers for".into());
                }
                let mut message = Vec::new();
                envelope::failure(&id, &RpcError::method_not_found(&method), &mut message);
                answers.push(message.into());
                drop(answers);
                self.look.notify_one();
            }
            Incoming::Answer { .. } | Incoming::Failure { .. } => {}
        }
        Ok(After::Nothing)
    }

    /// Unknown names are ignored; a known one that does not decode ends the connection (15.4).
    fn notified(&self, method: &str, params: &str) -> Result<After, String> {
        let held = self.options.held_bytes;
        let process = |id: &str| self.processes.lock().get(id).cloned();
        let inbox = match method {
            Output::NAME => {
                let output = decode::<Output>(params)?;
                process(&output.process_id).inspect(|inbox| inbox.output(output, held))
            }
            Exited::NAME => {
                let exited = decode::<Exited>(params)?;
                process(&exited.process_id).inspect(|inbox| inbox.exited(exited, held))
            }
            Closed::NAME => {
                let closed = decode::<Closed>(params)?;
                process(&closed.process_id).inspect(|inbox| inbox.closed(closed.seq, held))
            }
            BodyDelta::NAME => {
                let delta = decode::<BodyDelta>(params)?;
                let request_id = delta.request_id.clone();
                let Some(body) = self.bodies.lock().get(&request_id).cloned() else {
                    return Ok(After::Nothing);
                };
                if body.accept(delta) {
                    self.remove_body(&request_id);
                }
                return Ok(After::BodyRoom(body));
            }
            MissingChanged::NAME => {
                let fired = decode::<MissingChanged>(params)?.watch_id;
                self.missing.send_modify(|state| state.fired = fired);
                None
            }
            _ => None,
        };
        Ok(inbox.map_or(After::Nothing, After::ProcessRoom))
    }

    /// The connection is gone, but the session may be taken up again.
    pub(super) fn interrupted(&self, reason: &str) {
        // Another connection would not know the question.
        self.answers.lock().clear();
        self.calls.lock().interrupted(reason);
        for (_, body) in self.bodies.lock().drain() {
            body.fail(reason.to_owned());
        }
        self.missing.send_modify(|state| state.losses += 1);
    }

    /// The connection is gone for good: everybody who waits is told.
    pub(super) fn end(&self, reason: &str) {
        self.calls.lock().end(reason);
        for (_, body) in self.bodies.lock().drain() {
            body.fail(reason.to_owned());
        }
        for (_, process) in self.processes.lock().drain() {
            process.disconnected(reason.to_owned());
        }
        self.missing.send_modify(|state| state.losses += 1);
    }
}

fn decode<N: Notification>(params: &str) -> Result<N::Params, String> {
    serde_json::from_str(params).map_err(|error| format!("{}: {error}", N::NAME))
}
