//! The routing table: which method of the machine answers which request.

use std::sync::Arc;
use std::time::Duration;

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::{
    Method, RpcError, discovery, environment, filesystem as fs, http, process, session, tcp,
};

use super::answer::{AnswerSlot, Request, tell};
use super::connection::Connection;
use super::{http_bodies, kimi, sending};
use crate::environment::machine::{Machine, Reading, Reply};
use crate::environment::{discovery_methods, program_methods, tcp_methods};
use crate::filesystem::file_methods;
use crate::rpc::decode;

/// Families of methods, as refusals name them.
const PROGRAMS: &str = "exec";
const FILES: &str = "filesystem";
const DISCOVERY: &str = "discovery";
const TCP: &str = "tcp";

/// Begins a request. Called in the order of arrival.
pub(super) fn dispatch(c: &Arc<Connection>, request: Request<'_>, method: &str) {
    match method {
        session::Initialize::NAME => initialize(c, request),
        _ if c.kimi().is_some() => kimi::dispatch(c.ready("these"), request, method),
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

        session::End::NAME => begin::<session::End>(c, request, "session", |_, _, answer| {
            if let Some(session) = c.session() {
                c.server.sessions.close(session, c.id);
            }
            answer.answer(Ok(Empty {}));
        }),
        process::Read::NAME => begin::<process::Read>(c, request, PROGRAMS, |machine, params, answer| {
            machine.read(params, ReadAnswer { connection: Arc::clone(c), answer });
        }),
        fs::ReadFile::NAME => begin::<fs::ReadFile>(c, request, FILES, |machine, params, answer| {
            machine.send_file(
                params,
                answer,
                |AnswerSlot { outbox, id, in_flight, observed }, blocks, hold| {
                    let answer = sending::file_answer(&id, blocks);
                    tell(observed, None, answer.length());
                    outbox.pour(&id, answer, (hold, in_flight));
                },
            );
        }),
        http::Request::NAME => {
            begin::<http::Request>(c, request, "http", |m, params, answer| match params.stream_response {
                true => http_bodies::begin(m, params, answer),
                false => m.request(params, answer),
            })
        }
        _ => file_or_other(c, request, method),
    }
}

macro_rules! programs {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        fn program_or_other(c: &Arc<Connection>, request: Request<'_>, method: &str) {
            match method {
                $(<$method as Method>::NAME => begin::<$method>(c, request, PROGRAMS, |m, p, a| m.$name(p, a)),)*
                _ => discovery(c, request, method),
            }
        }
    };
}
program_methods!(programs);

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        fn file_or_other(c: &Arc<Connection>, request: Request<'_>, method: &str) {
            match method {
                $(<$method as Method>::NAME => begin::<$method>(c, request, FILES, |m, p, a| m.$name(p, a)),)*
                _ => program_or_other(c, request, method),
            }
        }
    };
}
file_methods!(files);

macro_rules! discoveries {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        fn discovery(c: &Arc<Connection>, request: Request<'_>, method: &str) {
            match method {
                $(<$method as Method>::NAME => begin::<$method>(c, request, DISCOVERY, |m, p, a| m.$name(p, a)),)*
                _ => stream(c, request, method),
            }
        }
    };
}
discovery_methods!(discoveries);

macro_rules! tcps {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        fn stream(c: &Arc<Connection>, request: Request<'_>, method: &str) {
            match method {
                $(<$method as Method>::NAME => begin::<$method>(c, request, TCP, |m, p, a| m.$name(p, a)),)*
                _ => request.answer.fail(RpcError::method_not_found(method)),
            }
        }
    };
}
tcp_methods!(tcps);

/// Begins a method, or answers with what is wrong about the request (the order of checks of 4.1).
fn begin<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    family: &str,
    method: impl FnOnce(&Arc<Machine>, M::Params, AnswerSlot),
) {
    match decode::<M>(request.params).and_then(|params| Ok((c.ready(family)?, params))) {
        Ok((machine, params)) => method(machine, params, request.answer),
        Err(error) => request.answer.fail(error),
    }
}

fn initialize(c: &Arc<Connection>, request: Request<'_>) {
    if c.session().is_none() && kimi::is_spoken(c.outbox.framing(), request.params) {
        return greet_kimi(c, request);
    }
    let result = decode::<session::Initialize>(request.params).and_then(|params| {
        if c.session().is_some() {
            return Err(RpcError::invalid_request("initialize may only be sent once per connection"));
        }
        let session = match &params.resume_session_id {
            Some(id) => c.server.sessions.resume(id, c.id)?,
            None => c.server.sessions.create(c.id, c.owner)?,
        };
        let asked = params.detached_ms.map(Duration::from_millis);
        let detached = asked.map(|asked| c.server.sessions.set_detached_time(&session, asked));
        let session_id = session.id().clone();
        c.lend(session);
        Ok(session::InitializeResult {
            session_id,
            environment_info: Some(c.server.info().clone()),
            detached_ms: detached.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        })
    });
    request.answer.answer(result);
}

/// Opens a session, and has the connection speak Kimi Code's dialect from now on.
fn greet_kimi(c: &Arc<Connection>, request: Request<'_>) {
    let session = match c.server.sessions.create(c.id, c.owner) {
        Ok(session) => session,
        Err(error) => return request.answer.fail(error),
    };
    c.lend(session);
    c.speak_kimi();
    request.answer.answer(Ok(kimi::greeting(c.server.info())));
}

/// The answer to a read. What was held for a reader that was away may go once this has arrived.
struct ReadAnswer {
    connection: Arc<Connection>,
    answer: AnswerSlot,
}

impl Reply<Reading> for ReadAnswer {
    fn answer(self, result: Result<Reading, RpcError>) {
        self.answer_holding(result, ());
    }

    fn answer_holding(self, result: Result<Reading, RpcError>, hold: impl Send + 'static) {
        let Reading { result, process } = match result {
            Ok(reading) => reading,
            Err(error) => return self.answer.fail(error),
        };
        let read = result.next_seq.previous();
        self.answer.answer(Ok(result));
        drop(hold);
        if let Some(process) = process.filter(|process| process.awaits_reading()) {
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
