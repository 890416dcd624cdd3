//! The three capabilities of this machine, without a connection: what the server's handlers do, called straight.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::traits::{CallError, Files, Http, Pieces, Processes};
use crate::Limits;
use crate::blocking;
use crate::client::{BodyError, MissingState};
use crate::filesystem::{self, Handles, MissingWatch, WholeFile};
use crate::http::LocalHttp;
use crate::process::{self, Host, Leftovers, Process, ProcessTable};
use crate::protocol::encode::Empty;
use crate::protocol::environment::EnvironmentInfo;
use crate::protocol::process::{Chunk, ReadResult};
use crate::protocol::{Base64Bytes, RpcError, filesystem as fs, http, process as wire};
use crate::sandbox::files::FileHelpers;

/// What a local environment is made from. The binary finds these facts; the library reads no environment.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The bounds.
    pub limits: Limits,
    /// What programs are started from.
    pub host: Host,
    /// What this machine is.
    pub info: EnvironmentInfo,
    /// What happens to descendants that outlive their program when the environment ends.
    pub leftovers: Leftovers,
}

/// This machine, as one session of its own. Clones share it; with the last one its programs end.
#[derive(Clone)]
pub struct Local(Arc<Machine>);

struct Machine {
    limits: Limits,
    info: EnvironmentInfo,
    processes: Arc<ProcessTable>,
    handles: Handles,
    /// What enforces sandboxes on files.
    confined: FileHelpers,
    watch: MissingWatch,
    missing: watch::Sender<MissingState>,
    http: LocalHttp,
    runtime: Handle,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// An environment without programs. Inside a tokio runtime, which its programs are watched on; does no I/O.
    pub fn new(config: LocalConfig) -> Self {
        let LocalConfig { limits, host, info, leftovers } = config;
        let (variables, confiner) = (host.environment.clone(), host.confiner.clone());
        let missing = watch::Sender::new(MissingState::default());
        let fired = {
            let missing = missing.clone();
            move |id| missing.send_modify(|state: &mut MissingState| state.fired = id)
        };
        Self(Arc::new(Machine {
            processes: Arc::new(ProcessTable::new(Arc::new(host), Arc::new(limits.clone()), leftovers)),
            handles: Handles::new(&limits),
            confined: FileHelpers::new(confiner, &limits),
            watch: MissingWatch::new(&limits, Box::new(fired)),
            missing,
            http: LocalHttp::new(&limits, move |name: &str| {
                variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }),
            limits,
            info,
            runtime: Handle::current(),
        }))
    }

    /// What this machine is.
    pub fn info(&self) -> &EnvironmentInfo {
        &self.0.info
    }

    /// Ends every program with its whole tree, and waits until they are reaped.
    pub async fn end(&self) {
        self.0.processes.end().await;
    }

    /// Does something to a process, after its start when that still goes on; to none when it is not known.
    async fn on_process<R: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(Option<&Arc<Process>>) -> Result<R, RpcError> + Send + 'static,
    ) -> Result<R, CallError> {
        let Ok(process) = self.0.processes.get(id) else { return Ok(work(None)?) };
        let (tell, told) = oneshot::channel();
        let same = Arc::clone(&process);
        process.when_started(move |started| {
            // Nobody asks any more when the caller went away.
            let _ = tell.send(work(started.ok().map(|()| &same)));
        });
        Ok(told.await.map_err(|_| ended())??)
    }

    /// Does something that may wait for a disk.
    async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Machine) -> Result<R, RpcError> + Send + 'static,
    ) -> Result<R, CallError> {
        let machine = Arc::clone(&self.0);
        Ok(blocking::spawn(move || work(&machine)).await.map_err(|_| ended())??)
    }
}

fn ended() -> CallError {
    CallError::Lost("the environment has ended".into())
}

impl Drop for Machine {
    fn drop(&mut self) {
        let processes = Arc::clone(&self.processes);
        // The programs get their end before the first wait, so they have it even where nothing is run any more.
        let mut end = Box::pin(async move { processes.end().await });
        let _entered = self.runtime.enter();
        let waiting = end.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        if waiting.is_pending() {
            self.runtime.spawn(end);
        }
    }
}

#[async_trait]
impl Processes for Local {
    async fn start(&self, params: wire::StartParams) -> Result<wire::StartResult, CallError> {
        let reserved = self.0.processes.reserve(params)?;
        let result = reserved.result();
        let (tell, told) = oneshot::channel();
        reserved.process().when_started(move |outcome| {
            // Without a listener the caller went away; the program runs on.
            let _ = tell.send(outcome.map_err(Clone::clone));
        });
        let table = Arc::clone(&self.0.processes);
        // A directory or program that has to be fetched may hang; only this start waits for it.
        blocking::spawn(move || table.launch(reserved)).detach();
        told.await.map_err(|_| ended())??;
        Ok(result)
    }

    async fn read(&self, params: wire::ReadParams) -> Result<ReadResult, CallError> {
        let process = self.0.processes.get(&params.process_id)?;
        let read = match process.read_now(&params, false)? {
            Some(read) => read,
            None => process.read(&params, self.0.limits.longest_wait).await?,
        };
        let owned = |chunk: Chunk<bytes::Bytes>| Chunk {
            seq: chunk.seq,
            stream: chunk.stream,
            chunk: Base64Bytes(chunk.chunk.into()),
        };
        Ok(ReadResult {
            chunks: read.chunks.into_iter().map(owned).collect(),
            next_seq: read.next_seq,
            exited: read.exited,
            exit_code: read.exit_code,
            closed: read.closed,
            failure: read.failure,
            sandbox_denied: read.sandbox_denied,
            lost_bytes: read.lost_bytes,
            totals: read.totals,
            exit: read.exit,
        })
    }

    async fn write(&self, params: wire::WriteParams) -> Result<wire::WriteResult, CallError> {
        process::check_write(&params)?;
        let unknown = wire::WriteResult { status: wire::WriteStatus::UnknownProcess };
        let Ok(process) = self.0.processes.get(&params.process_id) else { return Ok(unknown) };
        let (tell, told) = oneshot::channel();
        let same = Arc::clone(&process);
        process.when_started(move |started| {
            let answer = move |status: Result<wire::WriteStatus, RpcError>| drop(tell.send(status));
            match started {
                Ok(()) => same.write(params, answer),
                Err(_) => answer(Ok(wire::WriteStatus::UnknownProcess)),
            }
        });
        Ok(wire::WriteResult { status: told.await.map_err(|_| ended())?? })
    }

    async fn signal(&self, params: wire::SignalParams) -> Result<Empty, CallError> {
        let id = params.process_id.clone();
        self.on_process(&id, move |process| {
            if let Some(process) = process {
                process.signal(params.signal);
            }
            Ok(Empty {})
        })
        .await
    }

    async fn terminate(&self, params: wire::TerminateParams) -> Result<wire::TerminateResult, CallError> {
        let grace = params.grace_ms.map(Duration::from_millis);
        self.on_process(&params.process_id, move |process| {
            Ok(wire::TerminateResult { running: process.is_some_and(|process| process.terminate(grace)) })
        })
        .await
    }

    async fn list(&self, _: wire::ListParams) -> Result<wire::ListResult, CallError> {
        Ok(self.0.processes.list())
    }

    async fn wait(&self, params: wire::WaitParams) -> Result<wire::WaitResult, CallError> {
        let longest = self.0.limits.longest_wait;
        let timeout = params.timeout_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
        Ok(self.0.processes.get(&params.process_id)?.wait(timeout).await?)
    }

    async fn resize(&self, params: wire::ResizeParams) -> Result<Empty, CallError> {
        process::check_resize(&params)?;
        let id = params.process_id.clone();
        self.on_process(&id, move |process| {
            process::known(process, &params.process_id)?.resize(params.rows, params.cols).map(|()| Empty {})
        })
        .await
    }

    async fn close_stdin(&self, params: wire::CloseStdinParams) -> Result<Empty, CallError> {
        let id = params.process_id.clone();
        self.on_process(&id, move |process| {
            process::known(process, &params.process_id)?.close_stdin();
            Ok(Empty {})
        })
        .await
    }
}

macro_rules! on_disk {
    ($($method:ident($params:ty) -> $result:ty = $work:expr;)*) => {
        #[async_trait]
        impl Files for Local {
            $(async fn $method(&self, params: $params) -> Result<$result, CallError> {
                let work: fn(&Machine, $params) -> Result<$result, RpcError> = $work;
                self.on_disk(move |machine| work(machine, params)).await
            })*

            fn missing_changed(&self) -> watch::Receiver<MissingState> {
                self.0.missing.subscribe()
            }
        }
    };
}

on_disk! {
    read_file(fs::ReadFileParams) -> fs::ReadFileResult = |m, p| match m.confined.open_whole(&p)? {
        Some((file, size)) => WholeFile::opened(file, size, &m.limits)?.read_all(),
        None => filesystem::read_file(&p, &m.limits),
    };
    write_file(fs::WriteFileParams) -> Empty = |m, p| {
        m.confined.run::<fs::WriteFile>(p, |p| filesystem::write_file(&p))
    };
    create_directory(fs::CreateDirectoryParams) -> Empty = |m, p| {
        m.confined.run::<fs::CreateDirectory>(p, |p| filesystem::create_directory(&p))
    };
    get_metadata(fs::GetMetadataParams) -> fs::Metadata = |m, p| {
        m.confined.run::<fs::GetMetadata>(p, |p| filesystem::get_metadata(&p))
    };
    canonicalize(fs::CanonicalizeParams) -> fs::CanonicalizeResult = |m, p| {
        m.confined.run::<fs::Canonicalize>(p, |p| filesystem::canonicalize(&p))
    };
    read_directory(fs::ReadDirectoryParams) -> fs::ReadDirectoryResult = |m, p| {
        m.confined.run::<fs::ReadDirectory>(p, |p| filesystem::read_directory(&p, &m.limits))
    };
    walk(fs::WalkParams) -> fs::WalkResult = |m, p| {
        m.confined.run::<fs::Walk>(p, |p| filesystem::walk(&p, &m.limits))
    };
    remove(fs::RemoveParams) -> Empty = |m, p| m.confined.run::<fs::Remove>(p, |p| filesystem::remove(&p));
    copy(fs::CopyParams) -> Empty = |m, p| m.confined.run::<fs::Copy>(p, |p| filesystem::copy(&p));
    open(fs::OpenParams) -> fs::OpenResult = |m, p| {
        let reserved = m.handles.reserve(&p)?;
        match m.confined.open(&p)? {
            Some(file) => Ok(reserved.settle(file)),
            None => reserved.open(&p),
        }
    };
    read_block(fs::ReadBlockParams) -> fs::ReadBlockResult = |m, p| m.handles.read_block(&p);
    write_block(fs::WriteBlockParams) -> Empty = |m, p| m.handles.write_block(&p);
    close(fs::CloseParams) -> Empty = |m, p| Ok(m.handles.close(&p));
    watch_missing(fs::WatchMissingParams) -> fs::WatchMissingResult = |m, p| {
        let armed = m.watch.arm(&p);
        let watching = armed.is_some();
        armed.into_iter().for_each(filesystem::ArmedWatch::start);
        Ok(fs::WatchMissingResult { watching })
    };
}

#[async_trait]
impl Http for Local {
    async fn request(&self, params: http::RequestParams) -> Result<http::RequestResult, CallError> {
        Ok(self.0.http.request(params).await?)
    }

    async fn stream(&self, params: http::RequestParams) -> Result<(http::RequestResult, Pieces), CallError> {
        let (head, body) = self.0.http.open_stream(params).await?;
        let pieces = stream::unfold(body, |mut body| async move {
            let piece = body.next().await?;
            Some((piece.map(Vec::from).map_err(BodyError), body))
        });
        Ok((head, Box::pin(pieces)))
    }
}
