//! What is done to files (section 10): on worker threads, since a file system may hang, with the memory of answers claimed
//! beforehand.

use std::path::Path;
use std::sync::Arc;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::filesystem as fs;

use super::{Machine, Reply};
use crate::blocking;
use crate::budget::{Claim, answer_bytes};
use crate::filesystem::{self, ArmedWatch, Claim as HandleClaim, Touched, Touches, WholeFile};
use crate::sandbox::files::ConfinedMethod;

/// What a large directory's answer is taken to need (bytes); its bound is a message's.
const LARGE_DIRECTORY: u64 = 1 << 20;

impl Machine {
    /// Runs `work` on a worker thread in its turn, and answers there. `bytes` is how large the answer may be, about.
    fn on_disk<R: 'static>(
        self: &Arc<Self>,
        touched: Vec<Touched>,
        bytes: u64,
        reply: impl Reply<R>,
        work: impl FnOnce(&Self) -> Result<R, RpcError> + Send + 'static,
    ) {
        self.on_disk_then(touched, bytes, reply, move |machine| (work(machine), || {}));
    }

    /// As [`Self::on_disk`]; what `work` returns beside the answer is done behind it.
    fn on_disk_then<R: 'static, D: FnOnce()>(
        self: &Arc<Self>,
        touched: Vec<Touched>,
        bytes: u64,
        reply: impl Reply<R>,
        work: impl FnOnce(&Self) -> (Result<R, RpcError>, D) + Send + 'static,
    ) {
        let machine = Arc::clone(self);
        let place = self.order.enter(touched);
        self.beside(async move {
            // Without a slot, which those before it may be waiting for.
            place.comes().await;
            let slot = Arc::clone(&machine.slots).acquire_owned().await;
            // Answers that nobody takes are not piled up.
            reply.room().await;
            let claim = machine.answers.claim(bytes).await;
            let done = blocking::spawn(move || {
                let (result, then) = work(&machine);
                place.done();
                reply.answer_holding(result, (claim, slot));
                then();
            });
            let _ = done.await;
        });
    }

    /// A method that is done as a whole, under its sandbox if that has to be enforced.
    fn on_path<M: ConfinedMethod>(
        self: &Arc<Self>,
        params: M::Params,
        bytes: u64,
        reply: impl Reply<M::Result>,
        work: impl FnOnce(&Self, M::Params) -> Result<M::Result, RpcError> + Send + 'static,
    ) where
        M::Params: Touches,
    {
        let touched = params.touched();
        self.on_disk(touched, bytes, reply, |machine| {
            machine.confined.run::<M>(params, |params| work(machine, params))
        });
    }

    /// `fs/getMetadata` (10.4): at once where the kernel has everything in memory.
    pub(crate) fn get_metadata(
        self: &Arc<Self>,
        params: fs::GetMetadataParams,
        reply: impl Reply<fs::Metadata>,
    ) {
        if self.order.before(|| params.touched()).is_empty()
            && let Some(result) = filesystem::metadata_if_cached(&params)
        {
            return reply.answer(result);
        }
        self.on_path::<fs::GetMetadata>(params, 0, reply, |_, p| filesystem::get_metadata(&p));
    }

    /// `fs/writeFile` (10.2).
    pub(crate) fn write_file(self: &Arc<Self>, params: fs::WriteFileParams, reply: impl Reply<Empty>) {
        self.on_path::<fs::WriteFile>(params, 0, reply, |_, p| filesystem::write_file(&p));
    }

    /// `fs/createDirectory` (10.3).
    pub(crate) fn create_directory(
        self: &Arc<Self>,
        params: fs::CreateDirectoryParams,
        reply: impl Reply<Empty>,
    ) {
        self.on_path::<fs::CreateDirectory>(params, 0, reply, |_, p| filesystem::create_directory(&p));
    }

    /// `fs/canonicalize` (10.5).
    pub(crate) fn canonicalize(
        self: &Arc<Self>,
        params: fs::CanonicalizeParams,
        reply: impl Reply<fs::CanonicalizeResult>,
    ) {
        self.on_path::<fs::Canonicalize>(params, 0, reply, |_, p| filesystem::canonicalize(&p));
    }

    /// `fs/readDirectory` (10.6).
    pub(crate) fn read_directory(
        self: &Arc<Self>,
        params: fs::ReadDirectoryParams,
        reply: impl Reply<fs::ReadDirectoryResult>,
    ) {
        let large = answer_bytes(LARGE_DIRECTORY);
        self.on_path::<fs::ReadDirectory>(params, large, reply, |machine, p| {
            filesystem::read_directory(&p, machine.limits())
        });
    }

    /// `fs/walk` (10.7).
    pub(crate) fn walk(self: &Arc<Self>, params: fs::WalkParams, reply: impl Reply<fs::WalkResult>) {
        let large = answer_bytes(self.limits().walk_result_bytes as u64);
        self.on_path::<fs::Walk>(params, large, reply, |machine, p| filesystem::walk(&p, machine.limits()));
    }

    /// `fs/remove` (10.8).
    pub(crate) fn remove(self: &Arc<Self>, params: fs::RemoveParams, reply: impl Reply<Empty>) {
        self.on_path::<fs::Remove>(params, 0, reply, |_, p| filesystem::remove(&p));
    }

    /// `fs/copy` (10.9).
    pub(crate) fn copy(self: &Arc<Self>, params: fs::CopyParams, reply: impl Reply<Empty>) {
        self.on_path::<fs::Copy>(params, 0, reply, |_, p| filesystem::copy(&p));
    }

    /// `fs/readFile` (10.1). How large a file is shows only once it is open: then its memory is claimed, at once where
    /// there is room.
    pub(crate) fn read_file(
        self: &Arc<Self>,
        params: fs::ReadFileParams,
        reply: impl Reply<fs::ReadFileResult>,
    ) {
        let machine = Arc::clone(self);
        let place = self.order.enter(params.touched());
        self.beside(async move {
            place.comes().await;
            let slot = Arc::clone(&machine.slots).acquire_owned().await;
            reply.room().await;
            let mut read = WholeRead { machine, reply, hold: slot, params, file: None };
            let mut claim = None;
            // Twice at most: for a file that grows beyond its size, everything is claimed.
            while let Ok(Some((unfinished, bytes))) = blocking::spawn(move || read.go_on(claim)).await {
                claim = Some(unfinished.machine.answers.claim(bytes).await);
                read = unfinished;
            }
            place.done();
        });
    }

    /// `fs/open` (10.10). Takes the handle's id in order, so that blocks that follow at once find it.
    pub(crate) fn open(self: &Arc<Self>, params: fs::OpenParams, reply: impl Reply<fs::OpenResult>) {
        let reserved = match self.handles.reserve(&params) {
            Ok(reserved) => reserved,
            Err(error) => return reply.answer(Err(error)),
        };
        self.on_disk(params.touched(), 0, reply, move |machine| match machine.confined.open(&params)? {
            Some(file) => Ok(reserved.settle(file)),
            None => reserved.open(&params),
        });
    }

    /// `fs/readBlock` (10.10).
    pub(crate) fn read_block(
        self: &Arc<Self>,
        params: fs::ReadBlockParams,
        reply: impl Reply<fs::ReadBlockResult>,
    ) {
        let claim = self.handles.claim(&params.handle_id);
        let bytes = answer_bytes(params.len.min(self.limits().block_bytes));
        self.on_handle(claim, filesystem::reads, bytes, reply, move |handle| handle.read_block(&params));
    }

    /// `fs/writeBlock` (10.10).
    pub(crate) fn write_block(self: &Arc<Self>, params: fs::WriteBlockParams, reply: impl Reply<Empty>) {
        let claim = self.handles.claim(&params.handle_id);
        self.on_handle(claim, filesystem::changes, 0, reply, move |handle| handle.write_block(&params));
    }

    /// The handle was found in order, so that a close that follows at once does not take it away.
    fn on_handle<R: 'static>(
        self: &Arc<Self>,
        handle: Result<HandleClaim, RpcError>,
        touched: fn(&Path) -> Option<Touched>,
        bytes: u64,
        reply: impl Reply<R>,
        work: impl FnOnce(&HandleClaim) -> Result<R, RpcError> + Send + 'static,
    ) {
        let handle = match handle {
            Ok(handle) => handle,
            Err(error) => return reply.answer(Err(error)),
        };
        let touched = handle.path().and_then(touched).into_iter().collect();
        // Closing a file may wait, so that comes behind the answer.
        self.on_disk_then(touched, bytes, reply, move |_| (work(&handle), move || drop(handle)));
    }

    /// `fs/close` (10.10).
    pub(crate) fn close(&self, params: fs::CloseParams, reply: impl Reply<Empty>) {
        reply.answer(Ok(self.handles.close(&params)));
    }

    /// `fs/watchMissing` (10.11).
    pub(crate) fn watch_missing(
        self: &Arc<Self>,
        params: fs::WatchMissingParams,
        reply: impl Reply<fs::WatchMissingResult>,
    ) {
        self.on_disk_then(Vec::new(), 0, reply, move |machine| {
            let armed = machine.watch.arm(&params);
            let result = fs::WatchMissingResult { watching: armed.is_some() };
            // Behind the answer, which the notification must not overtake.
            (Ok(result), || armed.into_iter().for_each(ArmedWatch::start))
        });
    }
}

/// A file on its way into an answer.
struct WholeRead<A, H> {
    machine: Arc<Machine>,
    reply: A,
    hold: H,
    params: fs::ReadFileParams,
    file: Option<WholeFile>,
}

impl<A: Reply<fs::ReadFileResult>, H: Send + 'static> WholeRead<A, H> {
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
        let Some(claim) = claim.or_else(|| self.machine.answers.try_claim(bytes)) else {
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
        let limits = self.machine.limits();
        match self.machine.confined.open_whole(&self.params)? {
            Some((file, size)) => WholeFile::opened(file, size, limits),
            None => WholeFile::open(&self.params, limits),
        }
    }

    fn answer(
        self,
        result: Result<fs::ReadFileResult, RpcError>,
        claim: Option<Claim>,
    ) -> Option<(Self, u64)> {
        self.reply.answer_holding(result, (claim, self.hold));
        None
    }
}
