//! The capabilities of this machine, without a connection: the same methods that a server answers with, called
//! straight.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::machine::{Alone, Common, Followed, LocalConfig, Machine, Reply};
use super::traits::{
    BodyError, CallError, Discovery, Events, Files, Http, MissingState, Pieces, Processes, Tcp,
    discovery_methods, program_methods, tcp_methods,
};
use crate::filesystem::file_methods;
use crate::protocol::environment::EnvironmentInfo;
use crate::protocol::process::{Chunk, ReadResult};
use crate::protocol::{Base64Bytes, Method, RpcError, discovery, filesystem as fs, http, process, tcp};

/// This machine, as one session of its own. Clones share it; with the last one its programs end.
#[derive(Clone)]
pub struct Local(Arc<Owner>);

struct Owner {
    machine: Arc<Machine>,
    common: Arc<Common>,
    missing: watch::Sender<MissingState>,
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
        let common = Common::new(config);
        let missing = watch::Sender::new(MissingState::default());
        let told = missing.clone();
        let fired = move |id| told.send_modify(|state: &mut MissingState| state.fired = id);
        let machine = Machine::new(&common, common.processes(), fired, Box::new(Alone));
        Self(Arc::new(Owner { machine, common, missing, runtime: Handle::current() }))
    }

    /// What this machine is.
    pub fn info(&self) -> &EnvironmentInfo {
        &self.0.common.info
    }

    /// Ends every program with its whole tree, and waits until they are reaped.
    pub async fn end(&self) {
        self.0.machine.processes().end().await;
    }

    /// Begins a method, and waits for its answer.
    async fn call<R>(&self, begin: impl FnOnce(&Arc<Machine>, Caller<R>)) -> Result<R, CallError> {
        let (tell, told) = oneshot::channel();
        begin(&self.0.machine, Caller(tell));
        let (result, _held) = told.await.map_err(|_| CallError::Lost("the environment has ended".into()))?;
        Ok(result?)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.machine.stop();
        let processes = Arc::clone(self.machine.processes());
        // The programs get their end before the first wait, so they have it even where nothing is run any more.
        let mut end = Box::pin(async move { processes.end().await });
        let _entered = self.runtime.enter();
        let waiting = end.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        if waiting.is_pending() {
            self.runtime.spawn(end);
        }
    }
}

/// An answer, and what it holds until it is taken.
type HeldAnswer<R> = (Result<R, RpcError>, Option<Box<dyn Send>>);

/// The way back to the caller, who may have gone.
struct Caller<R>(oneshot::Sender<HeldAnswer<R>>);

impl<R: Send + 'static> Reply<R> for Caller<R> {
    fn answer(self, result: Result<R, RpcError>) {
        // Without a listener the caller went away.
        let _ = self.0.send((result, None));
    }

    fn answer_holding(self, result: Result<R, RpcError>, hold: impl Send + 'static) {
        let _ = self.0.send((result, Some(Box::new(hold))));
    }

    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }

    async fn gone(&mut self) {
        self.0.closed().await;
    }

    /// Each caller takes its answer itself.
    async fn room(&self) {}
}

/// Implements a capability by the machine's methods.
macro_rules! local {
    ($name:ident { $($method:ident: $wire:ty;)* $(=> { $($more:tt)* })? }) => {
        #[async_trait]
        impl $name for Local {
            $(async fn $method(
                &self,
                params: <$wire as Method>::Params,
            ) -> Result<<$wire as Method>::Result, CallError> {
                self.call(|machine, reply| machine.$method(params, reply)).await
            })*

            $($($more)*)?
        }
    };
}

macro_rules! programs {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        local! {
            Processes {
                $($name: $method;)*
                => {
                    async fn read(&self, params: process::ReadParams) -> Result<ReadResult, CallError> {
                        let reading = self.call(|machine, reply| machine.read(params, reply)).await?;
                        Ok(owned(reading.result))
                    }

                    async fn follow(&self, params: process::StartParams) -> Result<Events, CallError> {
                        let followed = self.call(|machine, reply| machine.start_followed(params, reply)).await?;
                        let next = |mut followed: Followed| async move { Some((followed.next().await?, followed)) };
                        Ok(Box::pin(stream::unfold(followed, next)))
                    }
                }
            }
        }
    };
}
program_methods!(programs);

fn owned(read: ReadResult<bytes::Bytes>) -> ReadResult {
    let owned = |chunk: Chunk<bytes::Bytes>| Chunk {
        seq: chunk.seq,
        stream: chunk.stream,
        chunk: Base64Bytes(chunk.chunk.into()),
    };
    ReadResult {
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
        next_offset: read.next_offset,
        chunk_times_ms: read.chunk_times_ms,
    }
}

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        local! {
            Files {
                $($name: $method;)*
                => {
                    fn missing_changed(&self) -> watch::Receiver<MissingState> {
                        self.0.missing.subscribe()
                    }
                }
            }
        }
    };
}
file_methods!(files);

macro_rules! discoveries {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        local! { Discovery { $($name: $method;)* } }
    };
}
discovery_methods!(discoveries);

macro_rules! tcps {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        local! { Tcp { $($name: $method;)* } }
    };
}
tcp_methods!(tcps);

local! {
    Http {
        request: http::Request;
        => {
            async fn stream(
                &self,
                params: http::RequestParams,
            ) -> Result<(http::RequestResult, Pieces), CallError> {
                let (head, mut open) = self.0.machine.stream(params)?.await?;
                open.slot = None;
                let pieces = stream::unfold(open, |mut open| async move {
                    let piece = open.body.next().await?;
                    Some((piece.map(Vec::from).map_err(BodyError), open))
                });
                Ok((head, Box::pin(pieces)))
            }
        }
    }
}
