//! Byte streams through the server's machine: connections made there, and ports listened on there.
//!
//! A few pieces are under way in each direction at a time ([`DEPTH`] of [`PIECE`] bytes); neither side has to hold more.

use std::io;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::calls::Retry;
use super::error::ClientError;
use super::session::Client;
use super::shared::{Orphan, Shared};
use crate::protocol::tcp::{
    Accept, AcceptParams, Connect, ConnectParams, Listen, ListenParams, Read, ReadParams, Shutdown,
    ShutdownParams, Write, WriteParams,
};

/// Bytes of one piece. Chosen for speed.
const PIECE: usize = 256 << 10;
/// Pieces on their way at once, in each direction. Chosen for speed; servers bear four.
const DEPTH: usize = 4;

/// A connection of the server's machine. Dropping it closes it there.
#[derive(Debug)]
pub struct RemoteStream {
    id: Named,
    /// The other end, as `IP:PORT`.
    pub peer: String,
}

/// A port of the server's machine that is listened on. Dropping it ends that.
#[derive(Debug)]
pub struct RemoteListener {
    id: Named,
    /// Where it listens, as `IP:PORT`.
    pub address: String,
}

/// Why two streams that were joined ended early.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The end that is here.
    #[error("the local connection broke: {0}")]
    Here(io::Error),
    /// The end that is there, or the way to it.
    #[error(transparent)]
    There(#[from] ClientError),
}

/// An id on the server, closed when it is dropped.
struct Named {
    shared: Arc<Shared>,
    id: String,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl Named {
    fn new(client: &Client) -> Result<Self, ClientError> {
        let knows = client.environment_info().is_some_and(|info| info.capabilities.tcp_streams);
        if !knows {
            return Err(ClientError::Usage(
                "this exec-server has no byte streams (tcpStreams), which ports are forwarded by: it is a released or an older one"
                    .into(),
            ));
        }
        Ok(Self::another(&client.shared))
    }

    /// A request's number is taken by nothing else of this connection.
    fn another(shared: &Arc<Shared>) -> Self {
        let id = shared.calls.lock().next_id().to_string();
        Self { shared: Arc::clone(shared), id }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.shared.leave_behind(Orphan::Stream(self.id.clone()));
    }
}

impl Client {
    /// Connects from the server's machine to a host, by a name or address as that machine knows it.
    ///
    /// # Errors
    /// [`ClientError::Usage`] where the server has no streams; `-32004` where nobody is there; else as for [`Client::call`].
    pub async fn tcp_connect(&self, host: &str, port: u16) -> Result<RemoteStream, ClientError> {
        let id = Named::new(self)?;
        let params = ConnectParams {
            stream_id: id.id.clone(),
            host: host.to_owned(),
            port,
            timeout_ms: None,
            sandbox: None,
        };
        let connected = self.shared.call::<Connect>(&params, Retry::Never).await?;
        Ok(RemoteStream { id, peer: connected.peer_address })
    }

    /// Listens on a port of the server's machine, on 127.0.0.1 without a host; 0 is a free port.
    ///
    /// # Errors
    /// As for [`Self::tcp_connect`].
    pub async fn tcp_listen(&self, host: Option<&str>, port: u16) -> Result<RemoteListener, ClientError> {
        let id = Named::new(self)?;
        let params =
            ListenParams { listener_id: id.id.clone(), host: host.map(Into::into), port, sandbox: None };
        let listening = self.shared.call::<Listen>(&params, Retry::Never).await?;
        Ok(RemoteListener { id, address: listening.address })
    }
}

impl RemoteListener {
    /// The next connection to the port.
    ///
    /// # Errors
    /// The loss of the connection, by which the port is gone as well; else as for [`Client::call`].
    pub async fn accept(&self) -> Result<RemoteStream, ClientError> {
        let shared = &self.id.shared;
        let id = Named::another(shared);
        let params = AcceptParams { listener_id: self.id.id.clone(), stream_id: id.id.clone() };
        let accepted = shared.call::<Accept>(&params, Retry::Never).await?;
        Ok(RemoteStream { id, peer: accepted.peer_address })
    }
}

impl RemoteStream {
    /// Moves bytes between this and a local connection until both directions have ended.
    ///
    /// # Errors
    /// What broke first. The other end then is to be told by whoever owns the local connection; the remote one is closed.
    pub async fn join(
        &self,
        from_here: impl AsyncRead + Unpin,
        to_here: impl AsyncWrite + Unpin,
    ) -> Result<(), JoinError> {
        tokio::try_join!(self.send_all(from_here), self.receive_all(to_here)).map(drop)
    }

    async fn send_all(&self, from_here: impl AsyncRead + Unpin) -> Result<(), JoinError> {
        let shared = &*self.id.shared;
        let pieces = stream::try_unfold(from_here, |mut from| async move {
            let mut piece = Vec::with_capacity(PIECE);
            let count = from.read_buf(&mut piece).await.map_err(JoinError::Here)?;
            Ok::<_, JoinError>((count > 0).then_some((piece, from)))
        });
        let write = |piece: Vec<u8>| async move {
            let params = WriteParams { stream_id: self.id.id.clone(), chunk: piece.into() };
            shared.call::<Write>(&params, Retry::Never).await.map_err(JoinError::There)
        };
        pieces.map_ok(write).try_buffered(DEPTH).try_for_each(|_| async { Ok(()) }).await?;
        let params = ShutdownParams { stream_id: self.id.id.clone() };
        shared.call::<Shutdown>(&params, Retry::Never).await?;
        Ok(())
    }

    async fn receive_all(&self, mut to_here: impl AsyncWrite + Unpin) -> Result<(), JoinError> {
        let shared = &*self.id.shared;
        let params = ReadParams { stream_id: self.id.id.clone(), max_bytes: Some(PIECE as u64) };
        let ask = || shared.call::<Read>(&params, Retry::Never);
        let mut pieces = std::pin::pin!(stream::repeat_with(ask).buffered(DEPTH));
        // So that further pieces are asked for while one is written.
        let (give, mut take) = mpsc::channel::<Vec<u8>>(1);
        let receive = async move {
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                if piece.eof || give.send(piece.chunk.0).await.is_err() {
                    break;
                }
            }
            Ok::<_, JoinError>(())
        };
        let write = async {
            while let Some(piece) = take.recv().await {
                to_here.write_all(&piece).await.map_err(JoinError::Here)?;
            }
            // The local end may have closed first.
            let _ = to_here.shutdown().await;
            Ok(())
        };
        tokio::try_join!(receive, write).map(drop)
    }
}
