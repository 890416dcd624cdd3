//! The routing table: which handler answers which method, and whether in order or beside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::{
    Method, RequestId, RpcError, environment, filesystem as files, http, process, session,
};

use super::connection::Connection;
use super::disk;
use super::file_order::{self, Before, FileOrder, Touched};
use super::session::Session;
use super::streams;
use crate::blocking;
use crate::budget::answer_bytes;
use crate::filesystem::{self, Claim as HandleClaim};
use crate::process::{Process, ProcessTable, Reserved, check_resize, check_write, known};
use crate::rpc::{InFlight, Outbox, decode};

/// What a large directory's answer is taken to need (bytes); its bound is a message's.
const LARGE_DIRECTORY: u64 = 1 << 20;

/// A start waits so long for the changes of files before it.
const LONGEST_CHANGE: Duration = Duration::from_secs(10);

/// A request that has been read and not begun.
pub(super) struct Request<'a> {
    pub(super) id: RequestId,
    pub(super) params: &'a str,
    pub(super) in_flight: InFlight,
}

/// Begins a request. Called in the order of arrival.
pub(super) fn dispatch(c: &Arc<Connection>, request: Request<'_>, method: &str) {
    match method {
        session::Initialize::NAME => initialize(c, request),
        environment::Info::NAME => {
            now::<environment::Info>(c, request, "environment info", |c, _, _| Ok(c.server.info.clone()));
        }
        environment::Status::NAME => {
            now::<environment::Status>(c, request, "environment status", |_, _, _| {
                Ok(environment::StatusResult { status: "ready".to_owned() })
            })
        }

        process::Start::NAME => start(c, request),
        process::Read::NAME => read(c, request),
        process::Write::NAME => write(c, request),
        process::Signal::NAME => on_process::<process::Signal>(
            c,
            request,
            |p| &p.process_id,
            |process, p| {
                if let Some(process) = process {
                    process.signal(p.signal);
                }
                Ok(Empty {})
            },
        ),
        process::Terminate::NAME => on_process::<process::Terminate>(
            c,
            request,
            |p| &p.process_id,
            |process, p| {
                let grace = p.grace_ms.map(Duration::from_millis);
                Ok(process::TerminateResult {
                    running: process.is_some_and(|process| process.terminate(grace)),
                })
            },
        ),
        process::Resize::NAME => on_process::<process::Resize>(
            c,
            request,
            |p| &p.process_id,
            |process, p| {
                check_resize(p)?;
                known(process, &p.process_id)?.resize(p.rows, p.cols).map(|()| Empty {})
            },
        ),
        process::CloseStdin::NAME => on_process::<process::CloseStdin>(
            c,
            request,
            |p| &p.process_id,
            |process, p| {
                known(process, &p.process_id)?.close_stdin();
                Ok(Empty {})
            },
        ),
        process::List::NAME => {
            now::<process::List>(c, request, "exec", |_, session, _| Ok(session.processes.list()))
        }
        process::Wait::NAME => wait(c, request),

        files::GetMetadata::NAME => disk::get_metadata(c, request),
        files::ReadFile::NAME => disk::read_file(c, request),
        files::WriteFile::NAME => {
            disk::on_disk::<files::WriteFile>(c, request, |_, p| filesystem::write_file(&p))
        }
        files::CreateDirectory::NAME => {
            disk::on_disk::<files::CreateDirectory>(c, request, |_, p| filesystem::create_directory(&p));
        }
        files::Canonicalize::NAME => {
            disk::on_disk::<files::Canonicalize>(c, request, |_, p| filesystem::canonicalize(&p))
        }
        files::ReadDirectory::NAME => {
            let large = answer_bytes(LARGE_DIRECTORY);
            disk::on_disk_within::<files::ReadDirectory>(c, request, large, |c, p| {
                filesystem::read_directory(&p, &c.server.limits)
            });
        }
        files::Walk::NAME => {
            let large = answer_bytes(c.server.limits.walk_result_bytes as u64);
            disk::on_disk_within::<files::Walk>(c, request, large, |c, p| {
                filesystem::walk(&p, &c.server.limits)
            });
        }
        files::Remove::NAME => disk::on_disk::<files::Remove>(c, request, |_, p| filesystem::remove(&p)),
        files::Copy::NAME => disk::on_disk::<files::Copy>(c, request, |_, p| filesystem::copy(&p)),
        files::Open::NAME => disk::open(c, request),
        files::ReadBlock::NAME => {
            let most = c.server.limits.block_bytes;
            disk::on_handle::<files::ReadBlock>(
                c,
                request,
                |p| &p.handle_id,
                file_order::reads,
                move |p| answer_bytes(p.len.min(most)),
                HandleClaim::read_block,
            );
        }
        files::WriteBlock::NAME => {
            disk::on_handle::<files::WriteBlock>(
                c,
                request,
                |p| &p.handle_id,
                file_order::changes,
                |_| 0,
                HandleClaim::write_block,
            );
        }
        files::Close::NAME => {
            now::<files::Close>(c, request, "filesystem", |c, _, p| Ok(c.handles.close(&p)))
        }
        files::WatchMissing::NAME => disk::watch_missing(c, request),

        http::Request::NAME => streams::http_request(c, request),
        _ => c.outbox.answer_any(&request.id, Err::<Empty, _>(RpcError::method_not_found(method))),
    }
}

/// Params and session, or the error that answers the request (the order of checks of 4.1).
pub(super) fn checked<'c, M: Method>(
    c: &'c Arc<Connection>,
    request: &Request<'_>,
    family: &str,
) -> Result<(&'c Arc<Session>, M::Params), RpcError> {
    let params = decode::<M>(request.params)?;
    Ok((c.ready(family)?, params))
}

/// Answers at once.
fn now<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    family: &str,
    work: impl FnOnce(&Arc<Connection>, &Arc<Session>, M::Params) -> Result<M::Result, RpcError>,
) {
    let result = checked::<M>(c, &request, family).and_then(|(session, params)| work(c, session, params));
    c.outbox.answer::<M>(&request.id, result);
}

/// Waits beside other requests. A wait holds no slot: as many as may be in flight leave the slots to others.
fn beside<M: Method>(
    c: &Arc<Connection>,
    id: RequestId,
    in_flight: InFlight,
    work: impl Future<Output = Result<M::Result, RpcError>> + Send + 'static,
) {
    let outbox = Arc::clone(&c.outbox);
    c.beside(async move {
        let result = work.await;
        outbox.answer::<M>(&id, result);
        drop(in_flight);
    });
}

/// Does something to a process, in order; after its start when that still goes on.
fn on_process<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    id_of: impl Fn(&M::Params) -> &str,
    work: impl FnOnce(Option<&Arc<Process>>, &M::Params) -> Result<M::Result, RpcError> + Send + 'static,
) {
    let (session, params) = match checked::<M>(c, &request, "exec") {
        Ok(checked) => checked,
        Err(error) => return c.outbox.answer::<M>(&request.id, Err(error)),
    };
    let (outbox, id, in_flight) = (Arc::clone(&c.outbox), request.id, request.in_flight);
    let process = session.processes.get(id_of(&params)).ok();
    let act = move |process: Option<&Arc<Process>>| {
        outbox.answer::<M>(&id, work(process, &params));
        drop(in_flight);
    };
    match process {
        None => act(None),
        Some(process) => {
            let same = Arc::clone(&process);
            process.when_started(move |started| act(started.ok().map(|()| &same)));
        }
    }
}

fn initialize(c: &Arc<Connection>, request: Request<'_>) {
    let result = decode::<session::Initialize>(request.params).and_then(|params| {
        if c.session.get().is_some() {
            return Err(RpcError::invalid_request("initialize may only be sent once per connection"));
        }
        let session = match &params.resume_session_id {
            Some(id) => c.server.sessions.resume(id, c.id)?,
            None => c.server.sessions.create(c.id)?,
        };
        let session_id = session.id().to_owned();
        session.processes.network().oversee(Arc::clone(&c.oversight) as _);
        let _ = c.session.set(session);
        Ok(session::InitializeResult { session_id, environment_info: Some(c.server.info.clone()) })
    });
    c.outbox.answer::<session::Initialize>(&request.id, result);
}

fn start(c: &Arc<Connection>, request: Request<'_>) {
    let (session, params) = match checked::<process::Start>(c, &request, "exec") {
        Ok(checked) => checked,
        Err(error) => return c.outbox.answer::<process::Start>(&request.id, Err(error)),
    };
    let start = Start {
        session: Arc::clone(session),
        outbox: Arc::clone(&c.outbox),
        order: Arc::clone(&c.file_order),
        id: request.id,
        in_flight: request.in_flight,
    };
    start.begin(params);
}

/// A start that has been read. It may outlive its connection.
struct Start {
    session: Arc<Session>,
    outbox: Arc<Outbox>,
    order: Arc<FileOrder>,
    id: RequestId,
    in_flight: InFlight,
}

impl Start {
    fn begin(self, params: process::StartParams) {
        if let Some(earlier) = self.session.processes.starting(&params.process_id) {
            // If that fails, its id is free for this one; but not once nobody hears of it.
            return earlier.when_started(move |_| {
                if !self.outbox.is_closed() {
                    self.begin(params);
                }
            });
        }
        let Self { session, outbox, order, id, in_flight } = self;
        let reserved = match session.processes.reserve(params) {
            Ok(reserved) => reserved,
            Err(error) => return outbox.answer::<process::Start>(&id, Err(error)),
        };
        let result = reserved.result();
        // The first of what waits for the start, so that its answer comes before those of the requests behind it.
        Arc::clone(reserved.process()).when_started(move |outcome| {
            outbox.answer::<process::Start>(&id, outcome.map(|()| result).map_err(Clone::clone));
            drop(in_flight);
        });
        let before = order.before(|| touched(reserved.params()));
        launch(Arc::clone(&session.processes), reserved, before);
    }
}

/// What a start finds on the disk: its program, and what lies where it begins.
fn touched(params: &process::StartParams) -> Vec<Touched> {
    let program = params.argv.iter().take(1).map(Path::new).filter(|program| program.is_absolute());
    program.chain([params.cwd.0.as_path()]).filter_map(file_order::reads).collect()
}

fn launch(table: Arc<ProcessTable>, reserved: Reserved, before: Before) {
    if before.is_empty() {
        return match starts_without_io(reserved.params()) {
            true => table.launch(reserved),
            false => launch_beside(table, reserved),
        };
    }
    // Also when the connection ends meanwhile: the id is taken.
    tokio::spawn(async move {
        // What hangs on a disk must not keep programs from starting for good.
        if let Ok(false) = tokio::time::timeout(LONGEST_CHANGE, before.over()).await {
            let error = "a change of files that came before it was given up with its connection";
            return table
                .give_up(&reserved, &RpcError::internal(format!("cannot start the program: {error}")));
        }
        launch_beside(table, reserved);
    });
}

/// A directory or program that has to be fetched may hang; only this start waits for it.
fn launch_beside(table: Arc<ProcessTable>, reserved: Reserved) {
    let launch = move || {
        // What is local is known from now on.
        filesystem::learn_filesystem(&reserved.params().cwd.0);
        if let Some(program) =
            reserved.params().argv.first().map(Path::new).filter(|program| program.is_absolute())
        {
            filesystem::learn_filesystem(program);
        }
        table.launch(reserved);
    };
    blocking::spawn(launch).detach();
}

/// Whether the working directory and the program are in the kernel's caches. A name that is looked for in the child's
/// `PATH` may lead through directories that hang, so it is never said to be.
fn starts_without_io(params: &process::StartParams) -> bool {
    // A sandbox's paths are looked up, and a launcher is waited for.
    if params.sandbox.is_some() || params.limits.is_some() {
        return false;
    }
    let program = params.argv.first().map(Path::new).filter(|program| program.is_absolute());
    program.is_some_and(filesystem::resolves_without_io) && filesystem::resolves_without_io(&params.cwd.0)
}

fn read(c: &Arc<Connection>, request: Request<'_>) {
    let found = checked::<process::Read>(c, &request, "exec")
        .and_then(|(session, params)| Ok((session.processes.get(&params.process_id)?, params)))
        .and_then(|(process, params)| Ok((process.read_now(&params, false)?, process, params)));
    match found {
        Err(error) => c.outbox.answer::<process::Read>(&request.id, Err(error)),
        Ok((Some(result), process, _)) => answer_read(c, &request.id, &process, Ok(result)),
        Ok((None, process, params)) => {
            let connection = Arc::clone(c);
            let (id, in_flight, longest) = (request.id, request.in_flight, c.server.limits.longest_wait);
            c.beside(async move {
                process.news_for(&params, longest).await;
                // Many that waited for the same news don't pile up their answers.
                connection.outbox.room().await;
                answer_read(&connection, &id, &process, process.read_at_last(&params));
                drop(in_flight);
            });
        }
    }
}

fn answer_read(
    c: &Connection,
    id: &RequestId,
    process: &Arc<Process>,
    result: Result<process::ReadResult<Bytes>, RpcError>,
) {
    let read = result.as_ref().map_or(0, |result| result.next_seq - 1);
    c.outbox.answer_any(id, result);
    if process.awaits_reading() {
        // Behind the answer, so that the ping follows it.
        c.receipts().answered(process, read);
        c.outbox.look();
    }
}

fn wait(c: &Arc<Connection>, request: Request<'_>) {
    let found = checked::<process::Wait>(c, &request, "exec")
        .and_then(|(session, params)| Ok((session.processes.get(&params.process_id)?, params)));
    match found {
        Err(error) => c.outbox.answer::<process::Wait>(&request.id, Err(error)),
        Ok((process, params)) => {
            let longest = c.server.limits.longest_wait;
            let timeout = params.timeout_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
            beside::<process::Wait>(
                c,
                request.id,
                request.in_flight,
                async move { process.wait(timeout).await },
            );
        }
    }
}

fn write(c: &Arc<Connection>, request: Request<'_>) {
    let answer = |status| Ok(process::WriteResult { status });
    let found = checked::<process::Write>(c, &request, "exec").and_then(|(session, params)| {
        check_write(&params)?;
        Ok((session.processes.get(&params.process_id).ok(), params))
    });
    let (process, params) = match found {
        Err(error) => return c.outbox.answer::<process::Write>(&request.id, Err(error)),
        Ok((None, _)) => {
            return c
                .outbox
                .answer::<process::Write>(&request.id, answer(process::WriteStatus::UnknownProcess));
        }
        Ok((Some(process), params)) => (process, params),
    };
    let (outbox, id, in_flight) = (Arc::clone(&c.outbox), request.id, request.in_flight);
    let same = Arc::clone(&process);
    process.when_started(move |started| {
        let reply = move |status: Result<process::WriteStatus, RpcError>| {
            outbox.answer::<process::Write>(&id, status.map(|status| process::WriteResult { status }));
            drop(in_flight);
        };
        match started {
            Ok(()) => same.write(params, reply),
            Err(_) => reply(Ok(process::WriteStatus::UnknownProcess)),
        }
    });
}
