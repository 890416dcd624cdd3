//! What is done to programs (section 8). Starting them has a file of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::process::{
    AttachParams, AttachResult, CloseStdinParams, ListParams, ListResult, ProcessInfo, ReadParams,
    ReadResult, ResizeParams, SignalParams, TerminateParams, TerminateResult, WaitParams, WaitResult,
    WriteParams, WriteResult, WriteStatus,
};
use codex_exec_protocol::{ProcessId, RpcError, SessionId};

use super::{Machine, Neighbour, Reply};
use crate::process::{Attachment, Process, check_attachment, check_resize, check_write, known};

/// What a read found, and in which process; none for a log on disk, which is read by its own id, and for a process of another
/// session: what is held there waits for that session's own client.
pub(crate) struct Reading {
    pub(crate) result: ReadResult<Bytes>,
    pub(crate) process: Option<Arc<Process>>,
}

impl Machine {
    /// `process/read` (8.3): at once, or when there is news.
    pub(crate) fn read(&self, params: ReadParams, reply: impl Reply<Reading>) {
        if params.log_id.is_some() {
            return self.read_log(params, reply);
        }
        let found = self.process(params.session_id.as_ref(), &params.process_id);
        if let (Ok(process), Some(id)) = (&found, &params.attachment_id) {
            process.attachment_has(id, params.after_seq.unwrap_or_default());
        }
        let found = found.and_then(|process| Ok((process.read_now(&params, false)?, process)));
        let process = match found {
            Err(error) => return reply.answer(Err(error)),
            Ok((Some(result), process)) => return self.answer_read(params, process, result, reply),
            Ok((None, process)) => process,
        };
        self.read_later(params, process, reply);
    }

    /// Answers a read with what is in memory, or with what is on disk where memory has lost it.
    fn answer_read(
        &self,
        params: ReadParams,
        process: Arc<Process>,
        result: ReadResult<Bytes>,
        reply: impl Reply<Reading>,
    ) {
        let own = params.session_id.is_none();
        if !process.may_be_on_disk(&result) {
            return reply.answer(Ok(Reading { result, process: own.then_some(process) }));
        }
        let limits = Arc::clone(&self.common.limits);
        self.beside(async move {
            let result = process.read_whole(params, limits, result).await;
            reply.answer(result.map(|result| Reading { result, process: own.then_some(process) }));
        });
    }

    /// Answers a read once there is news.
    fn read_later(&self, params: ReadParams, process: Arc<Process>, mut reply: impl Reply<Reading>) {
        let own = params.session_id.is_none();
        let limits = Arc::clone(&self.common.limits);
        // Without a slot: as many as may be in flight leave the slots to others.
        self.beside(async move {
            tokio::select! {
                () = process.news_for(&params, limits.connection.longest_wait) => {}
                () = reply.gone() => return,
            }
            // Many that waited for the same news don't pile up their answers.
            reply.room().await;
            let result = match process.read_at_last(&params) {
                Ok(result) => process.read_whole(params, limits, result).await,
                Err(error) => Err(error),
            };
            reply.answer(result.map(|result| Reading { result, process: own.then_some(process) }));
        });
    }

    /// `process/wait`. It holds no slot either.
    pub(crate) fn wait(&self, params: WaitParams, mut reply: impl Reply<WaitResult>) {
        let process = match self.process(params.session_id.as_ref(), &params.process_id) {
            Err(error) => return reply.answer(Err(error)),
            Ok(process) => process,
        };
        let longest = self.limits().connection.longest_wait;
        let timeout = params.timeout_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
        self.beside(async move {
            tokio::select! {
                result = process.wait(timeout) => reply.answer(result),
                () = reply.gone() => {}
            }
        });
    }

    /// `process/write` (8.4): answered in order, when the program's queue has room.
    pub(crate) fn write(&self, params: WriteParams, reply: impl Reply<WriteResult>) {
        let reply = |status: Result<WriteStatus, RpcError>| {
            reply.answer(status.map(|status| WriteResult { status }));
        };
        if let Err(error) = check_write(&params) {
            return reply(Err(error));
        }
        let Ok(process) = self.process(params.session_id.as_ref(), &params.process_id) else {
            return reply(Ok(WriteStatus::UnknownProcess));
        };
        let same = Arc::clone(&process);
        process.when_started(move |started| match started {
            Ok(()) => same.write(params, reply),
            Err(_) => reply(Ok(WriteStatus::UnknownProcess)),
        });
    }

    /// `process/signal` (8.5).
    pub(crate) fn signal(&self, params: SignalParams, reply: impl Reply<Empty>) {
        self.on_process(params.session_id.as_ref(), &params.process_id, reply, move |process| {
            if let Some(process) = process {
                process.signal(params.signal);
            }
            Ok(Empty {})
        });
    }

    /// `process/terminate` (8.5).
    pub(crate) fn terminate(&self, params: TerminateParams, reply: impl Reply<TerminateResult>) {
        let grace = params.grace_ms.map(Duration::from_millis);
        self.on_process(params.session_id.as_ref(), &params.process_id, reply, move |process| {
            Ok(TerminateResult { running: process.is_some_and(|process| process.terminate(grace)) })
        });
    }

    /// `process/resize`.
    pub(crate) fn resize(&self, params: ResizeParams, reply: impl Reply<Empty>) {
        let (session, id) = (params.session_id.clone(), params.process_id.clone());
        self.on_process(session.as_ref(), &id, reply, move |process| {
            check_resize(&params)?;
            known(process, &params.process_id)?.resize(params.rows, params.cols).map(|()| Empty {})
        });
    }

    /// `process/closeStdin`.
    pub(crate) fn close_stdin(&self, params: CloseStdinParams, reply: impl Reply<Empty>) {
        let (session, id) = (params.session_id.clone(), params.process_id.clone());
        self.on_process(session.as_ref(), &id, reply, move |process| {
            known(process, &params.process_id)?.close_stdin();
            Ok(Empty {})
        });
    }

    /// `process/list`.
    pub(crate) fn list(&self, params: ListParams, reply: impl Reply<ListResult>) {
        if !params.all_sessions {
            return reply.answer(Ok(self.processes.list()));
        }
        let of = |neighbour: Neighbour| {
            let Neighbour { session, attached, processes } = neighbour;
            let named = move |info| ProcessInfo { session_id: Some(session.clone()), attached, ..info };
            processes.list().processes.into_iter().map(named)
        };
        let processes = self.neighbours.all().into_iter().flat_map(of).collect();
        reply.answer(Ok(ListResult { processes }));
    }

    /// `process/attach`: at once in force, and answered when it ends. It holds no slot.
    pub(crate) fn attach(&self, params: AttachParams, mut reply: impl Reply<AttachResult>) {
        if let Err(error) = check_attachment(&params) {
            return reply.answer(Err(error));
        }
        let process = match self.process(params.session_id.as_ref(), &params.process_id) {
            Err(error) => return reply.answer(Err(error)),
            Ok(process) => process,
        };
        let attachment =
            Attachment::begin(process, params.attachment_id, params.after_seq.unwrap_or_default());
        self.beside(async move {
            tokio::select! {
                reason = attachment.ended() => reply.answer(Ok(AttachResult { reason })),
                () = reply.gone() => {}
            }
        });
    }

    /// A process of one's own session.
    pub(crate) fn known_process(&self, id: &ProcessId) -> Option<Arc<Process>> {
        self.processes.get(id).ok()
    }

    /// A process of one's own session, or of another that may be seen.
    fn process(&self, session: Option<&SessionId>, id: &str) -> Result<Arc<Process>, RpcError> {
        match session {
            None => self.processes.get(id),
            Some(session) => {
                let unknown = || RpcError::invalid_request(format!("unknown session id {session}"));
                let processes = self.neighbours.processes(session).ok_or_else(unknown)?;
                if !Arc::ptr_eq(&processes, &self.processes) {
                    processes.visit();
                }
                processes.get(id)
            }
        }
    }

    /// Does something to a process, in order; after its start when that still goes on; to none when it is not known.
    fn on_process<R>(
        &self,
        session: Option<&SessionId>,
        id: &str,
        reply: impl Reply<R>,
        work: impl FnOnce(Option<&Arc<Process>>) -> Result<R, RpcError> + Send + 'static,
    ) {
        match self.process(session, id) {
            Err(_) => reply.answer(work(None)),
            Ok(process) => {
                let same = Arc::clone(&process);
                process.when_started(move |started| reply.answer(work(started.ok().map(|()| &same))));
            }
        }
    }
}
