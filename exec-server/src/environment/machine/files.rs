//! What is done to files (section 10): on worker threads, since a file system may hang, with the memory of answers claimed
//! beforehand.

use std::sync::Arc;

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::filesystem::{self as fs, Sandboxed};
use codex_exec_protocol::sandbox::Sandbox;
use codex_exec_protocol::{Block, Method, RpcError, kimi};

use super::{Machine, Reply};
use crate::blocking;
use crate::budget::{Claim, answer_bytes};
use crate::filesystem::{
    self, ArmedWatch, Claim as HandleClaim, FileBlocks, How, PathMethod, Position, Touched, WholeFile,
    touched, touched_path, whole_file_methods,
};

macro_rules! whole {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        impl Machine {
            $($(#[$doc])*
            pub(crate) fn $name(
                self: &Arc<Self>,
                params: <$method as Method>::Params,
                reply: impl Reply<<$method as Method>::Result>,
            ) {
                self.on_path::<$method>(params, reply);
            })*
        }
    };
}
whole_file_methods!(whole);

impl Machine {
    /// Runs `work` on a worker thread in its turn, and answers there. `bytes` is how large the answer may be, about.
    pub(super) fn on_disk<R: 'static>(
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
        let position = self.order.enter(touched);
        self.beside(async move {
            // Without a slot, which those before it may be waiting for.
            position.comes().await;
            let slot = Arc::clone(&machine.slots).acquire_owned().await;
            // Answers that nobody takes are not piled up.
            reply.room().await;
            let claim = machine.answers.claim(bytes).await;
            let done = blocking::spawn(move || {
                let (result, then) = work(&machine);
                position.done();
                reply.answer_holding(result, (claim, slot));
                then();
            });
            let _ = done.await;
        });
    }

    /// A method that is done as a whole, at once where that needs no waiting.
    fn on_path<M: PathMethod>(self: &Arc<Self>, params: M::Params, reply: impl Reply<M::Result>) {
        if let Some(at_once) = M::AT_ONCE
            && !params.sandbox().is_some_and(Sandbox::needs_enforcement_for_files)
            && self.order.before(|| touched(&M::paths(&params))).is_empty()
            && let Some(result) = at_once(&params)
        {
            return reply.answer(result);
        }
        let (touched, bytes) = (touched(&M::paths(&params)), M::answer_bytes(self.limits()));
        self.on_disk(touched, bytes, reply, |machine| machine.confined.run::<M>(params, machine.limits()));
    }

    /// `fs/writeFile` (10.2).
    pub(crate) fn write_file(self: &Arc<Self>, params: fs::WriteFileParams, reply: impl Reply<Empty>) {
        self.on_disk(touched(&[How::Changes.of(&params.path)]), 0, reply, move |machine| {
            let content = filesystem::content(&params)?;
            filesystem::write(&params, machine.confined.open(&params)?.0, &content)
        });
    }

    /// `fs/readFile` (10.1). How large a file is shows only once it is open: then its memory is claimed, at once where
    /// there is room.
    pub(crate) fn read_file(
        self: &Arc<Self>,
        params: fs::ReadFileParams,
        reply: impl Reply<fs::ReadFileResult>,
    ) {
        self.read_or_send(params, reply, None);
    }

    /// As [`Self::read_file`], for whoever can read a large file while it sends the answer: `send` is handed it, and what to
    /// hold until that is done.
    pub(crate) fn send_file<A: Reply<fs::ReadFileResult>>(
        self: &Arc<Self>,
        params: fs::ReadFileParams,
        reply: A,
        send: SendBlocks<A>,
    ) {
        self.read_or_send(params, reply, Some(send));
    }

    fn read_or_send<A: Reply<fs::ReadFileResult>>(
        self: &Arc<Self>,
        params: fs::ReadFileParams,
        reply: A,
        send: Option<SendBlocks<A>>,
    ) {
        match filesystem::piece(&params, self.limits()) {
            Ok(None) => {}
            Ok(Some(most)) => return self.read_piece(params, most, reply),
            Err(error) => return reply.answer(Err(error)),
        }
        let machine = Arc::clone(self);
        let position = self.order.enter(touched(&[How::Reads.of(&params.path)]));
        self.beside(async move {
            position.comes().await;
            let slot = Arc::clone(&machine.slots).acquire_owned().await;
            reply.room().await;
            let hold = (slot, position.done_when_dropped());
            let mut read = WholeRead { machine, reply, hold, params, file: None, send };
            let mut claim = None;
            // Twice at most: for a file that grows beyond its size, everything is claimed.
            while let Ok(Some((unfinished, bytes))) = blocking::spawn(move || read.go_on(claim)).await {
                claim = Some(unfinished.machine.answers.claim(bytes).await);
                read = unfinished;
            }
        });
    }

    /// `fs/rename`, of Kimi Code's dialect alone.
    pub(crate) fn rename(self: &Arc<Self>, params: kimi::RenameParams, reply: impl Reply<Empty>) {
        self.on_path::<kimi::Rename>(params, reply);
    }

    /// A piece of a file, of at most `most` bytes.
    pub(crate) fn read_piece(
        self: &Arc<Self>,
        params: fs::ReadFileParams,
        most: u64,
        reply: impl Reply<fs::ReadFileResult>,
    ) {
        let touched = touched(&[How::Reads.of(&params.path)]);
        self.on_disk(touched, answer_bytes(most), reply, move |machine| {
            let (file, size) = machine.confined.open(&params)?;
            filesystem::read_piece(&file, size, params.offset.unwrap_or(0), most)
        });
    }

    /// `fs/open` (10.10). Takes the handle's id in order, so that blocks that follow at once find it.
    pub(crate) fn open(self: &Arc<Self>, params: fs::OpenParams, reply: impl Reply<fs::OpenResult>) {
        let reserved = match self.handles.reserve(&params) {
            Ok(reserved) => reserved,
            Err(error) => return reply.answer(Err(error)),
        };
        // A change for reading too: the blocks of a handle come behind it, and none may wait on a thread for it to be open.
        self.on_disk(touched(&[How::Changes.of(&params.path)]), 0, reply, move |machine| {
            let (file, _) = machine.confined.open(&params)?;
            if params.mode == fs::OpenMode::Replace {
                filesystem::empty(&file)?;
            }
            Ok(reserved.settle(file))
        });
    }

    /// `fs/readBlock` (10.10).
    pub(crate) fn read_block(self: &Arc<Self>, params: fs::ReadBlockParams, reply: impl Reply<Block>) {
        let claim = self.handles.claim(&params.handle_id);
        let bytes = answer_bytes(params.len.min(self.limits().files.block_bytes));
        self.on_handle(claim, How::Reads, bytes, reply, move |handle| handle.read_block(&params));
    }

    /// `fs/writeBlock` (10.10).
    pub(crate) fn write_block(self: &Arc<Self>, params: fs::WriteBlockParams, reply: impl Reply<Empty>) {
        let claim = self.handles.claim(&params.handle_id);
        self.on_handle(claim, How::Changes, 0, reply, move |handle| handle.write_block(&params));
    }

    /// The handle was found in order, so that a close that follows at once does not take it away.
    fn on_handle<R: 'static>(
        self: &Arc<Self>,
        handle: Result<HandleClaim, RpcError>,
        how: How,
        bytes: u64,
        reply: impl Reply<R>,
        work: impl FnOnce(&HandleClaim) -> Result<R, RpcError> + Send + 'static,
    ) {
        let handle = match handle {
            Ok(handle) => handle,
            Err(error) => return reply.answer(Err(error)),
        };
        let touched = handle.path().and_then(|path| touched_path(path, how)).into_iter().collect();
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

/// Sends an answer whose file is read meanwhile; drops the last once that is over.
type SendBlocks<A> = fn(A, FileBlocks, Box<dyn Send>);

/// A file on its way into an answer.
struct WholeRead<A, S> {
    machine: Arc<Machine>,
    reply: A,
    hold: (S, Position),
    params: fs::ReadFileParams,
    file: Option<WholeFile>,
    send: Option<SendBlocks<A>>,
}

impl<A: Reply<fs::ReadFileResult>, S: Send + 'static> WholeRead<A, S> {
    /// Reads and answers, unless memory has to be claimed first: then itself, and how much. Blocks.
    fn go_on(mut self, claim: Option<Claim>) -> Option<(Self, u64)> {
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => self.open(),
        };
        let mut file = match (file, self.send.take()) {
            (Ok(file), Some(send)) => match file.into_blocks() {
                Ok(blocks) => {
                    send(self.reply, blocks, Box::new(self.hold));
                    return None;
                }
                Err(file) => file,
            },
            (Ok(file), None) => file,
            (Err(error), _) => return self.answer(Err(error), claim),
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
        let (file, size) = self.machine.confined.open(&self.params)?;
        WholeFile::new(file, size, limits)
    }

    fn answer(
        self,
        result: Result<fs::ReadFileResult, RpcError>,
        claim: Option<Claim>,
    ) -> Option<(Self, u64)> {
        let (slot, position) = self.hold;
        position.done();
        self.reply.answer_holding(result, (claim, slot));
        None
    }
}
