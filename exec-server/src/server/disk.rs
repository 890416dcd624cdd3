//! Runs file requests on worker threads, with the memory of their answers claimed beforehand.

use std::path::Path;
use std::sync::Arc;

use codex_exec_protocol::{Method, RequestId, RpcError, filesystem as files};

use super::connection::Connection;
use super::file_order::{Touched, Touches};
use super::routes::{Request, checked};
use crate::blocking;
use crate::budget::{Claim, answer_bytes};
use crate::filesystem::{self, ArmedWatch, Claim as HandleClaim, Reservation, WholeFile};
use crate::sandbox::files::ConfinedMethod;

/// Runs `work` on a worker thread, since a file system may hang; encodes there too.
pub(super) fn on_disk<M: ConfinedMethod>(
    c: &Arc<Connection>,
    request: Request<'_>,
    work: impl FnOnce(&Arc<Connection>, M::Params) -> Result<M::Result, RpcError> + Send + 'static,
) where
    M::Params: Touches,
{
    on_disk_within::<M>(c, request, 0, work);
}

/// As [`on_disk`], with an answer of up to about `bytes` bytes.
pub(super) fn on_disk_within<M: ConfinedMethod>(
    c: &Arc<Connection>,
    request: Request<'_>,
    bytes: u64,
    work: impl FnOnce(&Arc<Connection>, M::Params) -> Result<M::Result, RpcError> + Send + 'static,
) where
    M::Params: Touches,
{
    let steps = Steps {
        prepare: |_: &Arc<Connection>, _: &M::Params| Ok(()),
        touched: |params: &M::Params, (): &()| params.touched(),
        bytes: move |_: &M::Params| bytes,
        work: |c: &Arc<Connection>, params, (): &mut ()| {
            c.confined.run::<M>(params, |params| work(c, params))
        },
        answered: |()| {},
    };
    steps.run::<M, ()>(c, request);
}

/// What is done for a request on the disk, and when.
struct Steps<A, T, B, W, D> {
    /// At once, in the order of the requests.
    prepare: A,
    /// What it has to keep its order with.
    touched: T,
    /// How large the answer may be, about; so much is claimed before the work.
    bytes: B,
    /// On a worker thread.
    work: W,
    /// Behind the answer.
    answered: D,
}

impl<A, T, B, W, D> Steps<A, T, B, W, D> {
    fn run<M: Method, P: Send + 'static>(self, c: &Arc<Connection>, request: Request<'_>)
    where
        A: FnOnce(&Arc<Connection>, &M::Params) -> Result<P, RpcError>,
        T: FnOnce(&M::Params, &P) -> Vec<Touched>,
        B: FnOnce(&M::Params) -> u64,
        W: FnOnce(&Arc<Connection>, M::Params, &mut P) -> Result<M::Result, RpcError> + Send + 'static,
        D: FnOnce(P) + Send + 'static,
    {
        let Self { prepare, touched, bytes, work, answered } = self;
        let prepared = checked::<M>(c, &request, "filesystem")
            .and_then(|(_, params)| Ok((prepare(c, &params)?, params)));
        let (mut prepared, params) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return c.outbox.answer::<M>(&request.id, Err(error)),
        };
        let (id, in_flight, connection) = (request.id, request.in_flight, Arc::clone(c));
        let bytes = bytes(&params);
        let place = c.file_order.enter(touched(&params, &prepared));
        c.beside(async move {
            // Without a slot, which those before it may be waiting for.
            place.comes().await;
            let slot = Arc::clone(&connection.slots).acquire_owned().await;
            // Answers that nobody takes are not piled up.
            connection.outbox.room().await;
            let claim = connection.answers.claim(bytes).await;
            let done = blocking::spawn(move || {
                let result = work(&connection, params, &mut prepared);
                place.done();
                // Kept until the socket took the answer.
                connection.outbox.answer_holding(&id, result, (claim, slot, in_flight));
                answered(prepared);
            });
            let _ = done.await;
        });
    }
}

/// How large a file is shows only once it is open: then its memory is claimed, at once where there is room.
pub(super) fn read_file(c: &Arc<Connection>, request: Request<'_>) {
    let params = match checked::<files::ReadFile>(c, &request, "filesystem") {
        Ok((_, params)) => params,
        Err(error) => return c.outbox.answer::<files::ReadFile>(&request.id, Err(error)),
    };
    let (id, in_flight, connection) = (request.id, request.in_flight, Arc::clone(c));
    let place = c.file_order.enter(params.touched());
    c.beside(async move {
        place.comes().await;
        let slot = Arc::clone(&connection.slots).acquire_owned().await;
        connection.outbox.room().await;
        let mut reading = Reading { connection, id, hold: (slot, in_flight), params, file: None };
        let mut claim = None;
        // Twice at most: for a file that grows beyond its size, everything is claimed.
        while let Ok(Some((unfinished, bytes))) = blocking::spawn(move || reading.go_on(claim)).await {
            claim = Some(unfinished.connection.answers.claim(bytes).await);
            reading = unfinished;
        }
        place.done();
    });
}

/// A file on its way into an answer.
struct Reading<H> {
    connection: Arc<Connection>,
    id: RequestId,
    hold: H,
    params: files::ReadFileParams,
    file: Option<WholeFile>,
}

impl<H: Send + 'static> Reading<H> {
    /// Reads and answers, unless memory has to be claimed first: then itself, and how much. Blocks.
    fn go_on(mut self, claim: Option<Claim>) -> Option<(Self, u64)> {
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => self.open(),
        };
        let mut file = match file {
            Ok(file) => file,
            Err(error) => return self.answer(Err(error), claim),
        };
        let bytes = answer_bytes(file.expected());
        let Some(claim) = claim.or_else(|| self.connection.answers.try_claim(bytes)) else {
            self.file = Some(file);
            return Some((self, bytes));
        };
        match file.read() {
            Ok(Some(result)) => self.answer(Ok(result), Some(claim)),
            Ok(None) => {
                let bytes = answer_bytes(file.expected());
                self.file = Some(file);
                Some((self, bytes))
            }
            Err(error) => self.answer(Err(error), None),
        }
    }

    /// Under the request's sandbox, if there is something to enforce.
    fn open(&self) -> Result<WholeFile, RpcError> {
        let limits = &self.connection.server.limits;
        match self.connection.confined.open_whole(&self.params)? {
            Some((file, size)) => WholeFile::opened(file, size, limits),
            None => WholeFile::open(&self.params, limits),
        }
    }

    fn answer(
        self,
        result: Result<files::ReadFileResult, RpcError>,
        claim: Option<Claim>,
    ) -> Option<(Self, u64)> {
        self.connection.outbox.answer_holding(&self.id, result, (claim, self.hold));
        None
    }
}

/// Takes the handle's id in order, so that blocks that follow at once find it.
pub(super) fn open(c: &Arc<Connection>, request: Request<'_>) {
    let steps = Steps {
        prepare: |c: &Arc<Connection>, params: &files::OpenParams| c.handles.reserve(params).map(Some),
        touched: |params: &files::OpenParams, _: &Option<Reservation>| params.touched(),
        bytes: |_: &files::OpenParams| 0,
        work: |c: &Arc<Connection>, params, reserved: &mut Option<Reservation>| match reserved.take() {
            Some(reserved) => match c.confined.open(&params)? {
                Some(file) => Ok(reserved.settle(file)),
                None => reserved.open(&params),
            },
            None => Err(RpcError::internal("the handle was opened before")),
        },
        answered: drop,
    };
    steps.run::<files::Open, _>(c, request);
}

/// Finds the handle in order, so that a close that follows at once does not take it away.
pub(super) fn on_handle<M: Method>(
    c: &Arc<Connection>,
    request: Request<'_>,
    id_of: impl Fn(&M::Params) -> &str,
    touched: fn(&Path) -> Option<Touched>,
    bytes: impl Fn(&M::Params) -> u64,
    work: impl FnOnce(&HandleClaim, &M::Params) -> Result<M::Result, RpcError> + Send + 'static,
) {
    let steps = Steps {
        prepare: |c: &Arc<Connection>, params: &M::Params| c.handles.claim(id_of(params)),
        touched: |_: &M::Params, claim: &HandleClaim| claim.path().and_then(touched).into_iter().collect(),
        bytes,
        work: |_: &Arc<Connection>, params, claim: &mut HandleClaim| work(claim, &params),
        answered: drop,
    };
    steps.run::<M, HandleClaim>(c, request);
}

pub(super) fn watch_missing(c: &Arc<Connection>, request: Request<'_>) {
    let steps = Steps {
        prepare: |_: &Arc<Connection>, _: &files::WatchMissingParams| Ok(None),
        touched: |_: &files::WatchMissingParams, _: &Option<ArmedWatch>| Vec::new(),
        bytes: |_: &files::WatchMissingParams| 0,
        work: |c: &Arc<Connection>, params, armed: &mut Option<ArmedWatch>| {
            *armed = c.watch().arm(&params);
            Ok(files::WatchMissingResult { watching: armed.is_some() })
        },
        // Behind the answer, which the notification must not overtake.
        answered: |armed: Option<ArmedWatch>| armed.into_iter().for_each(ArmedWatch::start),
    };
    steps.run::<files::WatchMissing, _>(c, request);
}

pub(super) fn get_metadata(c: &Arc<Connection>, request: Request<'_>) {
    let cached = checked::<files::GetMetadata>(c, &request, "filesystem")
        .ok()
        .filter(|(_, params)| c.file_order.before(|| params.touched()).is_empty())
        .and_then(|(_, params)| filesystem::metadata_if_cached(&params));
    match cached {
        Some(result) => c.outbox.answer::<files::GetMetadata>(&request.id, result),
        None => on_disk::<files::GetMetadata>(c, request, |_, p| filesystem::get_metadata(&p)),
    }
}
