//! The routing table: which method of the machine answers which request.

use std::sync::Arc;

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::{
    Method, RequestId, RpcError, WireEncode, environment, filesystem as files, http, process, session,
};

use super::connection::Connection;
use super::streams;
use crate::environment::machine::{Machine, Reading, Reply};
use crate::rpc::{InFlight, Outbox, decode};

/// A request that has been read and not begun.
pub(super) struct Request<'a> {
    pub(super) params: &'a str,
    pub(super) answer: Answer,
}

/// Where a request's answer goes.
pub(super) struct Answer {
    pub(super) outbox: Arc<Outbox>,
    pub(super) id: RequestId,
    pub(super) in_flight: InFlight,
}

impl<R: WireEncode> Reply<R> for Answer {
    fn answer(self, result: Result<R, RpcError>) {
        self.outbox.answer_any(&self.id, result);
    }

    fn answer_holding(self, result: Result<R, RpcError>, hold: impl Send + 'static) {
        self.outbox.answer_holding(&self.id, result, (hold, self.in_flight));
    }

    fn is_gone(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Slow requests end with their connection anyway.
    async fn gone(&mut self) {
        std::future::pending().await
    }

    async fn room(&self) {
        self.outbox.room().await;
    }
}

/// Begins a request. Called in the order of arrival.
pub(super) fn dispatch(c: &Arc<Connection>, request: Request<'_>, method: &str) {
    match method {
        session::Initialize::NAME => initialize(c, request),
        environment::Info::NAME => {
            begin::<environment::Info>(c, request, "environment info", |_, _, answer| {
                answer.answer(Ok(c.server.info().clone()));
            })
        }
        environment::Status::NAME => {
            begin::<environment::Status>(c, request, "environment status", |_, _, answer| {
                answer.answer(Ok(environment::StatusResult { status: "ready".to_owned() }));
            });
        }

        process::Start::NAME => program::<process::Start>(c, request, |m, p, a| m.start(p, a)),
        process::Read::NAME => program::<process::Read>(c, request, |m, p, answer| {
            m.read(p, ReadAnswer { connection: Arc::clone(c), answer });
        }),
        process::Write::NAME => program::<process::Write>(c, request, |m, p, a| m.write(p, a)),
        process::Signal::NAME => program::<process::Signal>(c, request, |m, p, a| m.signal(p, a)),
        process::Terminate::NAME => program::<process::Terminate>(c, request, |m, p, a| m.terminate(p, a)),
        process::Resize::NAME => program::<process::Resize>(c, request, |m, p, a| m.resize(p, a)),
        process::CloseStdin::NAME => {
            program::<process::CloseStdin>(c, request, |m, p, a| m.close_stdin(p, a))
        }
        process::List::NAME => program::<process::List>(c, request, |m, p, a| m.list(p, a)),
        process::Wait::NAME => program::<process::Wait>(c, request, |m, p, a| m.wait(p, a)),

        files::GetMetadata::NAME => file::<files::GetMetadata>(c, request, |m, p, a| m.get_metadata(p, a)),
        files::ReadFile::NAME => file::<files::ReadFile>(c, request, |m, p, a| m.read_file(p, a)),
        files::WriteFile::NAME => file::<files::WriteFile>(c, request, |m, p, a| m.write_file(p, a)),
        files::CreateDirectory::NAME => {
            file::<files::CreateDirectory>(c, request, |m, p, a| m.create_directory(p, a));
        }
        files::Canonicalize::NAME => file::<files::Canonicalize>(c, request, |m, p, a| m.canonicalize(p, a)),
        files::ReadDirectory::NAME => {
            file::<files::ReadDirectory>(c, request, |m, p, a| m.read_directory(p, a))
        }
        files::Walk::NAME => file::<files::Walk>(c, request, |m, p, a| m.walk(p, a)),
        files::Remove::NAME => file::<files::Remove>(c, request, |m, p, a| m.remove(p, a)),
        files::Copy::NAME => file::<files::Copy>(c, request, |m, p, a| m.copy(p, a)),
        files::Open::NAME => file::<files::Open>(c, request, |m, p, a| m.open(p, a)),
        files::ReadBlock::NAME => file::<files::ReadBlock>(c, request, |m, p, a| m.read_block(p, a)),
        files::WriteBlock::NAME => file::<files::WriteBlock>(c, request, |m, p, a| m.write_block(p, a)),
        files::Close::NAME => file::<files::Close>(c, request, |m, p, a| m.close(p, a)),
        files::WatchMissing::NAME => file::<files::WatchMissing>(c, request, |m, p, a| m.watch_missing(p, a)),

        http::Request::NAME => {
            begin::<http::Request>(c, request, "http", |m, params, answer| match params.stream_response {
                true => streams::begin(m, params, answer),
                false => m.request(params, answer),
            })
        }
        _ => failed(request.answer, RpcError::method_not_found(method)),
    }
}

/// Begins a method, or answers with what is wrong about the request (the order of checks of 4.1).
fn begin<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    family: &str,
    method: impl FnOnce(&Arc<Machine>, M::Params, Answer),
) {
    match decode::<M>(request.params).and_then(|params| Ok((c.ready(family)?, params))) {
        Ok((machine, params)) => method(machine, params, request.answer),
        Err(error) => failed(request.answer, error),
    }
}

fn program<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    method: impl FnOnce(&Arc<Machine>, M::Params, Answer),
) {
    begin::<M>(c, request, "exec", method);
}

fn file<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    method: impl FnOnce(&Arc<Machine>, M::Params, Answer),
) {
    begin::<M>(c, request, "filesystem", method);
}

/// Answers with an error.
pub(super) fn failed(answer: Answer, error: RpcError) {
    answer.answer(Err::<Empty, _>(error));
}

fn initialize(c: &Arc<Connection>, request: Request<'_>) {
    let result = decode::<session::Initialize>(request.params).and_then(|params| {
        if c.session().is_some() {
            return Err(RpcError::invalid_request("initialize may only be sent once per connection"));
        }
        let session = match &params.resume_session_id {
            Some(id) => c.server.sessions.resume(id, c.id)?,
            None => c.server.sessions.create(c.id)?,
        };
        let session_id = session.id().to_owned();
        c.lend(session);
        Ok(session::InitializeResult { session_id, environment_info: Some(c.server.info().clone()) })
    });
    request.answer.answer(result);
}

/// The answer to a read. What was held for a reader that was away may go once this has arrived.
struct ReadAnswer {
    connection: Arc<Connection>,
    answer: Answer,
}

impl Reply<Reading> for ReadAnswer {
    fn answer(self, result: Result<Reading, RpcError>) {
        self.answer_holding(result, ());
    }

    fn answer_holding(self, result: Result<Reading, RpcError>, hold: impl Send + 'static) {
        let Reading { result, process } = match result {
            Ok(reading) => reading,
            Err(error) => return failed(self.answer, error),
        };
        let read = result.next_seq - 1;
        self.answer.answer(Ok(result));
        drop(hold);
        if process.awaits_reading() {
            // Behind the answer, so that the ping follows it.
            self.connection.receipts().answered(&process, read);
            self.connection.outbox.look();
        }
    }

    fn is_gone(&self) -> bool {
        self.connection.outbox.is_closed()
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }

    async fn room(&self) {
        self.connection.outbox.room().await;
    }
}
