//! `tcp/*`: byte streams to and from this machine's network.

use std::sync::Arc;
use std::time::Duration;

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::tcp::{
    AcceptParams, AcceptResult, CloseParams, ConnectParams, ConnectResult, ListenParams, ListenResult,
    ReadParams, ShutdownParams, WriteParams,
};
use codex_exec_protocol::{Block, RpcError};

use super::{Machine, Reply};
use crate::tcp::{self, Listener, Socket};

/// What a read gives at most where it does not say, in bytes. Fixed by the wire.
const DEFAULT_READ: u64 = 64 << 10;

impl Machine {
    /// `tcp/connect`. Its id is taken at once.
    pub(crate) fn connect(self: &Arc<Self>, params: ConnectParams, mut reply: impl Reply<ConnectResult>) {
        let reserved = check_port(params.port)
            .and_then(|()| tcp::check_sandbox(params.sandbox.as_ref()))
            .and_then(|()| self.tcp.reserve(&params.stream_id));
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(error) => return reply.answer(Err(error)),
        };
        let (longest, waiting) = (self.limits().tcp.tcp_connect_time, self.tcp.waiting);
        let time = params.timeout_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
        self.beside(async move {
            let connecting = tcp::connect(&params.host, params.port, time);
            let connected = tokio::select! {
                connected = connecting => connected,
                () = reply.gone() => return,
            };
            let what = || format!("can't connect to {}:{}", params.host, params.port);
            let result = connected
                .map(|stream| Socket::new(stream, waiting))
                .and_then(|socket| socket.addresses().map(|ends| (ends, socket)))
                .map_err(|error| tcp::failed(&what(), &error))
                .and_then(|((local, peer), socket)| {
                    reserved.settle_stream(socket)?;
                    Ok(ConnectResult { local_address: local.to_string(), peer_address: peer.to_string() })
                });
            reply.answer(result);
        });
    }

    /// `tcp/listen`.
    pub(crate) fn listen(&self, params: ListenParams, reply: impl Reply<ListenResult>) {
        let listen = || {
            tcp::check_sandbox(params.sandbox.as_ref())?;
            let reserved = self.tcp.reserve(&params.listener_id)?;
            let host = params.host.as_deref();
            let what = || format!("can't listen on {}:{}", host.unwrap_or("127.0.0.1"), params.port);
            let listener = tcp::listen(host, params.port).map_err(|error| tcp::failed(&what(), &error))?;
            let listener = reserved.settle_listener(Listener::new(listener, self.tcp.waiting))?;
            let address = listener.address().map_err(|error| tcp::failed(&what(), &error))?;
            Ok(ListenResult { address: address.to_string() })
        };
        reply.answer(listen());
    }

    /// `tcp/accept`. The stream's id is taken at once.
    pub(crate) fn accept(self: &Arc<Self>, params: AcceptParams, mut reply: impl Reply<AcceptResult>) {
        let begin = || {
            let listener = self.tcp.listener(&params.listener_id)?;
            let reserved = self.tcp.reserve(&params.stream_id)?;
            Ok((listener.turn()?, listener, reserved))
        };
        let (turn, listener, reserved) = match begin() {
            Ok(begun) => begun,
            Err(error) => return reply.answer(Err(error)),
        };
        let waiting = self.tcp.waiting;
        self.beside(async move {
            let accepted = tokio::select! {
                accepted = listener.accept(turn) => accepted,
                () = reply.gone() => return,
            };
            let result = accepted.and_then(|stream| {
                let socket = Socket::new(stream, waiting);
                let ends = socket.addresses().map_err(|error| tcp::failed("the connection is gone", &error));
                let (_, peer) = ends?;
                reserved.settle_stream(socket)?;
                Ok(AcceptResult { peer_address: peer.to_string() })
            });
            reply.answer(result);
        });
    }

    /// `tcp/read`. Without a slot, as every request that only waits.
    pub(crate) fn read_stream(self: &Arc<Self>, params: ReadParams, mut reply: impl Reply<Block>) {
        let largest = self.limits().tcp.tcp_piece_bytes;
        let asked = params.max_bytes.unwrap_or(DEFAULT_READ).min(largest as u64);
        let begin = || {
            let socket = self.tcp.stream(&params.stream_id)?;
            let most = usize::try_from(asked).unwrap_or(largest);
            if most == 0 {
                return Err(RpcError::invalid_params("maxBytes must be at least 1"));
            }
            Ok((socket.read_turn()?, socket, most))
        };
        let (turn, socket, most) = match begin() {
            Ok(begun) => begun,
            Err(error) => return reply.answer(Err(error)),
        };
        let machine = Arc::clone(self);
        self.beside(async move {
            let read = tokio::select! {
                read = socket.read(turn, most, &machine.answers) => read,
                () = reply.gone() => return,
            };
            match read {
                Ok((chunk, claim)) => {
                    let eof = chunk.is_empty();
                    reply.answer_holding(Ok(Block { chunk: chunk.into(), eof }), claim);
                }
                Err(error) => reply.answer(Err(error)),
            }
        });
    }

    /// `tcp/write`.
    pub(crate) fn write_stream(self: &Arc<Self>, params: WriteParams, mut reply: impl Reply<Empty>) {
        let largest = self.limits().tcp.tcp_piece_bytes;
        let begin = || {
            if params.chunk.0.len() > largest {
                return Err(RpcError::invalid_params(format!("a piece has at most {largest} bytes")));
            }
            let socket = self.tcp.stream(&params.stream_id)?;
            Ok((socket.write_turn()?, socket))
        };
        let (turn, socket) = match begin() {
            Ok(begun) => begun,
            Err(error) => return reply.answer(Err(error)),
        };
        self.beside(async move {
            tokio::select! {
                written = socket.write(turn, &params.chunk.0) => reply.answer(written.map(|()| Empty {})),
                () = reply.gone() => {}
            }
        });
    }

    /// `tcp/shutdown`.
    pub(crate) fn shutdown_stream(self: &Arc<Self>, params: ShutdownParams, reply: impl Reply<Empty>) {
        let begin = || {
            let socket = self.tcp.stream(&params.stream_id)?;
            Ok((socket.write_turn()?, socket))
        };
        let (turn, socket) = match begin() {
            Ok(begun) => begun,
            Err(error) => return reply.answer(Err(error)),
        };
        self.beside(async move { reply.answer(socket.shutdown(turn).await.map(|()| Empty {})) });
    }

    /// `tcp/close`.
    pub(crate) fn close_stream(&self, params: CloseParams, reply: impl Reply<Empty>) {
        self.tcp.close(&params.id);
        reply.answer(Ok(Empty {}));
    }
}

fn check_port(port: u16) -> Result<(), RpcError> {
    if port == 0 { Err(RpcError::invalid_params("port must be 1 to 65535")) } else { Ok(()) }
}
