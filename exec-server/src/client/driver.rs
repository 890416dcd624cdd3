//! The task that owns a connection: handshake, routing, resume.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::body::BodyInbox;
use super::calls::{Calls, Retry};
use super::endpoint::{Again, Endpoint, Link, OpenError};
use super::inbox::{Inbox, lock};
use super::link::{LinkReader, LinkWriter};
use super::process::ProcessInbox;
use super::schedule::{Reconnect, Step};
use super::{ClientError, ClientOptions};
use crate::protocol::encode::Empty;
use crate::protocol::environment::EnvironmentInfo;
use crate::protocol::filesystem::MissingChanged;
use crate::protocol::http::BodyDelta;
use crate::protocol::process::{Closed, Exited, Output, Read, ReadParams, Terminate, TerminateParams};
use crate::protocol::session::{Initialize, InitializeParams, InitializeResult, Initialized};
use crate::protocol::{ErrorCode, Incoming, Method, Notification, RequestId, RpcError, envelope};

/// What is known of the `fs/watchMissing` of a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MissingState {
    /// The watch that fired last; 0 for none.
    pub fired: u64,
    /// Losses of the connection so far; each ended the watch that ran.
    pub losses: u64,
}

/// What the client's handles and the driver share.
pub(super) struct Shared {
    options: ClientOptions,
    calls: Mutex<Calls>,
    /// A call has been sent: the reader may go on.
    call_sent: Notify,
    outgoing: mpsc::Sender<i64>,
    processes: Mutex<HashMap<String, Arc<ProcessInbox>>>,
    bodies: Mutex<HashMap<String, Arc<BodyInbox>>>,
    /// Programs whose handles were dropped, to be terminated.
    orphans: Mutex<Vec<String>>,
    /// Answers to what the server asked, encoded.
    answers: Mutex<Vec<Bytes>>,
    /// The writer should look at the two above.
    look: Notify,
    session: Mutex<Option<InitializeResult>>,
    /// In bytes; some connections carry no longer one.
    longest_message: AtomicUsize,
    pub(super) missing: watch::Sender<MissingState>,
    pub(super) finished: watch::Sender<bool>,
}

/// Forgets a call whose caller stopped waiting.
struct Forget<'a>(&'a Shared, i64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.0.calls).forget(self.1);
    }
}

/// What the reader has to do before it reads on.
enum After {
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
        }
    }

    pub(super) fn session_id(&self) -> String {
        lock(&self.session).as_ref().map(|session| session.session_id.clone()).unwrap_or_default()
    }

    pub(super) fn environment_info(&self) -> Option<EnvironmentInfo> {
        lock(&self.session).as_ref().and_then(|session| session.environment_info.clone())
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
            let mut calls = lock(&self.calls);
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
        let mut processes = lock(&self.processes);
        if processes.contains_key(id) {
            return Err(ClientError::Usage(format!("process {id:?} is followed already; choose another id")));
        }
        processes.insert(id.to_owned(), Arc::clone(inbox));
        Ok(())
    }

    /// Stops following; `terminate` also ends the program.
    pub(super) fn remove_process(&self, id: &str, terminate: bool) {
        lock(&self.processes).remove(id);
        if terminate && lock(&self.calls).ended().is_none() {
            lock(&self.orphans).push(id.to_owned());
            self.look.notify_one();
        }
    }

    pub(super) fn add_body(&self, id: &str, inbox: &Arc<BodyInbox>) -> Result<(), ClientError> {
        let mut bodies = lock(&self.bodies);
        if bodies.contains_key(id) {
            return Err(ClientError::Usage(format!("HTTP request {id:?} still streams; choose another id")));
        }
        bodies.insert(id.to_owned(), Arc::clone(inbox));
        Ok(())
    }

    pub(super) fn remove_body(&self, id: &str) {
        lock(&self.bodies).remove(id);
    }

    /// Routes one message. An error means that the connection can't be trusted any more.
    fn route(&self, message: &str) -> Result<After, String> {
        match Incoming::parse(message.as_bytes()).map_err(|error| error.message)? {
            Incoming::Answer { id: RequestId::Number(id), result } => {
                lock(&self.calls).answer(id, Ok(result.to_owned()));
            }
            Incoming::Failure { id: RequestId::Number(id), error } => {
                lock(&self.calls).answer(id, Err(error))
            }
            Incoming::Notification { method, params } => return self.notified(&method, params),
            // This client offers the server no methods (section 13 is for those that announced some).
            Incoming::Request { id, method, .. } => {
                let mut answers = lock(&self.answers);
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
        let process = |id: &str| lock(&self.processes).get(id).cloned();
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
                let Some(body) = lock(&self.bodies).get(&request_id).cloned() else {
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

    /// Waits until a follower has room (see the module's words on back-pressure).
    async fn room<T>(&self, inbox: &Inbox<T>) {
        loop {
            let mut room = pin!(inbox.room().notified());
            room.as_mut().enable();
            let waiting = lock(&self.calls).any_waiting();
            let bound = if waiting { self.options.queue_bytes_with_calls } else { self.options.queue_bytes };
            if inbox.fits(bound) {
                return;
            }
            tokio::select! {
                () = room => {}
                () = self.call_sent.notified() => {}
            }
        }
    }

    async fn read_all(&self, reader: &mut LinkReader) -> String {
        loop {
            let message = match reader.next().await {
                Ok(Some(message)) => message,
                Ok(None) if reader.is_going_away() => return "the exec-server was stopped".into(),
                Ok(None) => return "the exec-server ended the connection".into(),
                Err(error) => return error.to_string(),
            };
            let after = match self.route(&message) {
                Ok(after) => after,
                Err(error) => return format!("the exec-server sent something unreadable: {error}"),
            };
            drop(message);
            match after {
                After::Nothing => {}
                After::ProcessRoom(inbox) => self.room(&inbox.queue).await,
                After::BodyRoom(inbox) => self.room(&inbox.queue).await,
            }
        }
    }

    /// Sends what is queued, in batches; returns when the socket fails.
    async fn write_all(&self, writer: &mut LinkWriter, queue: &mut mpsc::Receiver<i64>) -> String {
        let sending = async {
            let repeated = lock(&self.calls).to_repeat();
            for message in repeated {
                writer.feed(message).await?;
            }
            loop {
                self.write_queued(writer, queue).await?;
                tokio::select! {
                    id = queue.recv() => match id {
                        Some(id) => self.write_call(writer, id).await?,
                        None => std::future::pending().await,
                    },
                    () = self.look.notified() => {}
                    () = writer.chore() => writer.do_chores().await?,
                }
            }
        };
        let ended: std::io::Result<std::convert::Infallible> = sending.await;
        match ended {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        }
    }

    async fn write_call(&self, writer: &mut LinkWriter, id: i64) -> std::io::Result<()> {
        let message = lock(&self.calls).take_for_sending(id);
        if let Some(message) = message {
            self.call_sent.notify_one();
            writer.feed(message).await?;
        }
        Ok(())
    }

    /// Sends everything that can be sent without waiting for new calls.
    async fn write_queued(
        &self,
        writer: &mut LinkWriter,
        queue: &mut mpsc::Receiver<i64>,
    ) -> std::io::Result<()> {
        while let Ok(id) = queue.try_recv() {
            self.write_call(writer, id).await?;
        }
        let answers = std::mem::take(&mut *lock(&self.answers));
        for answer in answers {
            writer.feed(answer).await?;
        }
        loop {
            let Some(process_id) = lock(&self.orphans).pop() else { break };
            let id = RequestId::Number(lock(&self.calls).next_id());
            let params = TerminateParams { process_id: process_id.clone(), grace_ms: None };
            let mut message = Vec::new();
            envelope::request::<Terminate>(&id, &params, &mut message);
            if let Err(error) = writer.feed(message.into()).await {
                lock(&self.orphans).push(process_id);
                return Err(error);
            }
        }
        writer.flush().await
    }

    /// Reads what every live process did while the connection was away.
    async fn recover(&self) {
        let processes: Vec<_> =
            lock(&self.processes).iter().map(|(id, inbox)| (id.clone(), Arc::clone(inbox))).collect();
        futures_util::future::join_all(processes.iter().map(|(id, inbox)| async move {
            let Some(after) = inbox.recover_after() else { return };
            let params = ReadParams {
                process_id: id.clone(),
                after_seq: Some(after),
                max_bytes: None,
                wait_ms: Some(0),
            };
            match self.call::<Read>(&params, Retry::Safe).await {
                Ok(read) => inbox.recovered(read),
                // A further loss: the next recovery, or the end, tells the follower.
                Err(ClientError::Lost(_)) => {}
                Err(error) => {
                    lock(&self.processes).remove(id);
                    inbox.disconnected(format!("the program's output can't be taken up again: {error}"));
                }
            }
        }))
        .await;
    }

    /// The connection is gone, but the session may be taken up again.
    fn interrupted(&self, reason: &str) {
        // Another connection would not know the question.
        lock(&self.answers).clear();
        lock(&self.calls).interrupted(reason);
        for (_, body) in lock(&self.bodies).drain() {
            body.fail(reason.to_owned());
        }
        self.missing.send_modify(|state| state.losses += 1);
    }

    /// The connection is gone for good: everybody who waits is told.
    fn end(&self, reason: &str) {
        lock(&self.calls).end(reason);
        for (_, body) in lock(&self.bodies).drain() {
            body.fail(reason.to_owned());
        }
        for (_, process) in lock(&self.processes).drain() {
            process.disconnected(reason.to_owned());
        }
        self.missing.send_modify(|state| state.losses += 1);
    }
}

fn decode<N: Notification>(params: &str) -> Result<N::Params, String> {
    serde_json::from_str(params).map_err(|error| format!("{}: {error}", N::NAME))
}

/// Ends everything should the driver be dropped with its runtime.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.end("the connection was closed");
        self.0.finished.send_replace(true);
    }
}

/// Owns the connection.
pub(super) struct Driver {
    shared: Arc<Shared>,
    link: Link,
    again: Again,
    queue: mpsc::Receiver<i64>,
    stopped: watch::Receiver<bool>,
}

impl Driver {
    pub(super) async fn connect(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        queue: mpsc::Receiver<i64>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, ClientError> {
        let (mut link, again) = endpoint.open(&shared.options).await?;
        shared.longest_message.store(again.longest_message(), Ordering::Relaxed);
        let time = shared.options.initialize_time;
        let session = handshake(&shared, &mut link, &again, None, time).await?;
        *lock(&shared.session) = Some(session);
        Ok(Self { shared, link, again, queue, stopped })
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let finish = Finish(Arc::clone(&shared));
        let mut resumed = false;
        let reason = loop {
            let Some(reason) = self.serve(resumed).await else {
                self.say_goodbye().await;
                break "the connection was closed".to_owned();
            };
            if !self.again.possible() {
                break reason;
            }
            shared.interrupted(&reason);
            match self.resume().await {
                Ok(link) => self.link = link,
                Err(failure) => break format!("{reason}; {failure}"),
            }
            resumed = true;
        };
        shared.end(&reason);
        let _ = self.link.writer.close().await;
        if let Some(child) = self.link.child.take() {
            child.end(shared.options.child_grace).await;
        }
        drop(finish);
    }

    /// Serves one connection until it is lost, with the reason, or until the client stops, with none.
    async fn serve(&mut self, resumed: bool) -> Option<String> {
        let shared = &self.shared;
        let recovery = async {
            if resumed {
                shared.recover().await;
            }
            std::future::pending().await
        };
        tokio::select! {
            reason = shared.read_all(&mut self.link.reader) => Some(reason),
            reason = shared.write_all(&mut self.link.writer, &mut self.queue) => Some(reason),
            () = recovery => None,
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }

    /// Sends what the client has asked for before it stopped.
    async fn say_goodbye(&mut self) {
        const TIME: Duration = Duration::from_secs(1);
        let Self { shared, link, queue, .. } = self;
        let goodbye = async {
            shared.write_queued(&mut link.writer, queue).await?;
            link.writer.close().await
        };
        // A server that does not take it in time loses the session's programs by its end anyway.
        let _ = tokio::time::timeout(TIME, goodbye).await;
    }

    /// Tries to take up the session until it works, is refused, or the time is up (15.4).
    async fn resume(&mut self) -> Result<Link, String> {
        let said_goodbye = self.link.reader.is_going_away();
        let Self { shared, again, stopped, .. } = self;
        let options = &shared.options;
        let longest_pause = again.longest_pause(options.retry_pause);
        let mut schedule =
            Reconnect::new(Instant::now(), options.recovery_time, options.retry_pause, longest_pause);
        let mut last = String::from("no attempt was made");
        loop {
            match schedule.step(Instant::now()) {
                Step::GiveUp => {
                    return Err(format!("it did not come back within {:?}: {last}", options.recovery_time));
                }
                Step::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => return Err("the client stopped".into()),
                },
                Step::Try(left) => {
                    let outcome = tokio::select! {
                        outcome = tokio::time::timeout(left, attempt(shared, again)) => outcome,
                        _ = stopped.wait_for(|stopped| *stopped) => return Err("the client stopped".into()),
                    };
                    match outcome {
                        Ok(Ok(link)) => return Ok(link),
                        Ok(Err(OpenError { error: ClientError::Rpc(error), .. }))
                            if error.code != ErrorCode::SESSION_ATTACHED =>
                        {
                            return Err(format!("the session can't be resumed: {error}"));
                        }
                        Ok(Err(OpenError { error: error @ ClientError::Refused { .. }, .. })) => {
                            return Err(error.to_string());
                        }
                        Ok(Err(OpenError { error, nobody: true })) if again.is_gone(said_goodbye) => {
                            return Err(format!(
                                "its programs ended with it, and nobody listens there any more: {error}"
                            ));
                        }
                        Ok(Err(failed)) => last = failed.error.to_string(),
                        Err(_) => last = "the last attempt took too long".into(),
                    }
                    schedule.failed(Instant::now(), rand::random());
                }
            }
        }
    }
}

/// One attempt to take up the session.
async fn attempt(shared: &Shared, again: &Again) -> Result<Link, OpenError> {
    let options = &shared.options;
    let mut link = again.open(options).await?;
    let session_id = Some(shared.session_id());
    handshake(shared, &mut link, again, session_id, options.initialize_time).await?;
    Ok(link)
}

/// `initialize` and `initialized` (section 5), within this time.
async fn handshake(
    shared: &Shared,
    link: &mut Link,
    again: &Again,
    resume_session_id: Option<String>,
    time: Duration,
) -> Result<InitializeResult, ClientError> {
    let target = again.target();
    let failed = |reason: String| ClientError::Connect { target: target.clone(), reason };
    let shaking = async {
        let id = RequestId::Number(lock(&shared.calls).next_id());
        let params = InitializeParams { client_name: shared.options.client_name.clone(), resume_session_id };
        let mut message = Vec::new();
        envelope::request::<Initialize>(&id, &params, &mut message);
        send(&mut link.writer, message.into()).await.map_err(&failed)?;
        let session = loop {
            let message = link.reader.next().await.map_err(|error| failed(error.to_string()))?;
            let message = message.ok_or_else(|| failed("it ended the connection in the handshake".into()))?;
            match Incoming::parse(message.as_bytes()) {
                Ok(Incoming::Answer { id: answered, result }) if answered == id => {
                    break serde_json::from_str::<InitializeResult>(result).map_err(|error| {
                        ClientError::Answer { method: Initialize::NAME, reason: error.to_string() }
                    })?;
                }
                Ok(Incoming::Failure { id: answered, error }) if answered == id => {
                    return Err(ClientError::Rpc(error));
                }
                Ok(_) => {}
                Err(RpcError { message, .. }) => {
                    return Err(failed(format!("it is no exec-server: {message}")));
                }
            }
        };
        let mut message = Vec::new();
        envelope::notification::<Initialized>(&Empty {}, &mut message);
        send(&mut link.writer, message.into()).await.map_err(&failed)?;
        Ok(session)
    };
    let timed_out = |_| ClientError::TimedOut { target: target.clone(), what: "the handshake", after: time };
    tokio::time::timeout(time, shaking).await.map_err(timed_out)?
}

async fn send(writer: &mut LinkWriter, message: Bytes) -> Result<(), String> {
    writer.feed(message).await.map_err(|error| error.to_string())?;
    writer.flush().await.map_err(|error| error.to_string())
}
