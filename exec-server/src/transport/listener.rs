//! Accepts connections on a TCP or Unix socket and brings them to the point where messages flow.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::address::ListenAddress;
use super::auth::Auth;
use super::bind_error::BindError;
use super::bound::{Address as BoundAddress, Bound};
use super::carrier::{Carrier, Owner};
use super::frame::Framing;
use super::http::{self, Outcome};
use super::reader::MessageReader;
use super::socket_file::SocketFile;
use super::waiting_room::{Origin, Waiting, WaitingRoom};
use crate::Limits;
use crate::observe::{Address, Observer, Peer};
use crate::own_port::OwnPort;
use crate::protocol::{RequestId, RpcError, envelope};

/// Pause after an accept that failed for want of descriptors or memory. Our own pace: nothing outside depends on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long and how much a refused peer may go on sending, so that it gets to read the answer: closing
/// with unread bytes would reset the connection and lose it. Our own pace: nothing outside depends on it.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Our own pace: nothing outside depends on it.
const LINGER_BYTES: u64 = 256 << 10;
/// Room for the first bytes of a connection: an upgrade's head as clients send it. Chosen for speed.
const FIRST_READ_BYTES: usize = 1 << 10;

/// A bound socket. Dropping it stops listening and removes its socket file.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr, #[allow(dead_code, reason = "held for its drop")] OwnPort),
    Unix(UnixListener, SocketFile),
    /// The file belongs to whoever made it.
    InheritedUnix(UnixListener, PathBuf),
}

#[derive(Debug)]
struct Shared {
    auth: Auth,
    limits: Limits,
    /// Places of those that are served. Who only waits for its handshake has none.
    connections: Arc<Semaphore>,
    waiting: Arc<WaitingRoom>,
    observer: Observer,
}

/// An accepted connection that has said nothing yet.
#[derive(Debug)]
pub struct Pending {
    stream: Stream,
    address: Address,
    waiting: Waiting,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds the address; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Bound::bind`].
    pub fn bind(address: &ListenAddress, auth: Auth, limits: &Limits) -> Result<Self, BindError> {
        Self::new(Bound::bind(address)?, auth, limits)
    }

    /// Takes connections from a socket that listens; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the event loop can't watch it.
    pub fn new(bound: Bound, auth: Auth, limits: &Limits) -> Result<Self, BindError> {
        Self::observed(bound, auth, limits, Observer::default())
    }

    /// As [`Self::new`], with somebody who hears of connections that are not let in. Where there are figures, `GET /metrics` is
    /// answered with them, to who may connect.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn observed(
        bound: Bound,
        auth: Auth,
        limits: &Limits,
        observer: Observer,
    ) -> Result<Self, BindError> {
        let Bound { socket, address } = bound;
        let socket = match address {
            BoundAddress::Tcp(address) => {
                let listener = TcpListener::from_std(socket.into())
                    .map_err(|source| BindError::Tcp { address, source })?;
                Socket::Tcp(listener, address, OwnPort::register(address.port()))
            }
            BoundAddress::Unix(file) => {
                let failed = |source| BindError::Unix { path: file.path().to_owned(), source };
                Socket::Unix(UnixListener::from_std(socket.into()).map_err(failed)?, file)
            }
            BoundAddress::InheritedUnix(path) => {
                let listener = UnixListener::from_std(socket.into()).map_err(BindError::Inherited)?;
                Socket::InheritedUnix(listener, path)
            }
        };
        Ok(Self::over(socket, auth, limits, observer))
    }

    fn over(socket: Socket, auth: Auth, limits: &Limits, observer: Observer) -> Self {
        let places = limits.transport.connections.min(Semaphore::MAX_PERMITS);
        let shared = Shared {
            auth,
            limits: limits.clone(),
            connections: Arc::new(Semaphore::new(places)),
            waiting: Arc::new(WaitingRoom::new(limits.transport.waiting_connections)),
            observer,
        };
        Self { socket, shared: Arc::new(shared) }
    }

    /// Where it really listens: `ws://IP:PORT`, or `unix://PATH` with an absolute path.
    pub fn local_address(&self) -> String {
        match &self.socket {
            Socket::Tcp(_, address, _) => format!("ws://{address}"),
            Socket::Unix(_, file) => format!("unix://{}", file.path().display()),
            Socket::InheritedUnix(_, path) => format!("unix://{}", path.display()),
        }
    }

    /// The next connection. Cancel-safe. Passing failures, such as too many open files, are waited out.
    ///
    /// # Errors
    /// Only when the listening socket itself is broken.
    pub async fn accept(&mut self) -> io::Result<Pending> {
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => {
                    let waiting = self.shared.waiting.enter(Origin::of(&address));
                    return Ok(Pending { stream, address, waiting, shared: Arc::clone(&self.shared) });
                }
                Err(error) => survive(error).await?,
            }
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Address)> {
        match self {
            Self::Tcp(listener, ..) => {
                let (stream, peer) = listener.accept().await?;
                // Without it every small answer waits 40 ms for a delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY refused; the peer is probably gone");
                }
                Ok((Stream::Tcp(stream), Address::Tcp(peer)))
            }
            Self::Unix(listener, _) | Self::InheritedUnix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // Of a peer that is gone nothing more is heard.
                let credentials = stream.peer_cred().ok();
                let user = credentials.as_ref().map_or(u32::MAX, UCred::uid);
                let process = credentials.and_then(|credentials| credentials.pid());
                Ok((Stream::Unix(stream), Address::Unix { user, process }))
            }
        }
    }
}

/// Waits out a failed accept, unless the listening socket itself is at fault.
async fn survive(error: io::Error) -> io::Result<()> {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
            return Err(error);
        }
        // The peer went before it was accepted: nothing to wait for.
        Some(Errno::CONNABORTED | Errno::INTR) => return Ok(()),
        _ => {}
    }
    tracing::warn!(%error, "cannot accept a connection; trying again");
    sleep(ACCEPT_PAUSE).await;
    Ok(())
}

impl Pending {
    /// Does the HTTP upgrade, or finds a Unix peer's first line. `None`: answered and ended, as section 2.2
    /// says, or ended for taking longer than `handshake_time`, or for a newer connection when too many wait.
    pub async fn handshake(self) -> Option<Carrier> {
        let Self { stream, address, mut waiting, shared } = self;
        let shaking = async {
            match stream {
                Stream::Tcp(stream) => {
                    let (read, write) = stream.into_split();
                    Handshake { read, write, address, shared: &shared, lines: false }.run().await
                }
                Stream::Unix(stream) => {
                    let (read, write) = stream.into_split();
                    Handshake { read, write, address, shared: &shared, lines: true }.run().await
                }
            }
        };
        tokio::select! {
            agreed = shaking => agreed.unwrap_or_else(|error| {
                tracing::debug!(%error, "a connection ended during its handshake");
                None
            }),
            () = waiting.must_leave() => None,
        }
    }
}

/// What the first bytes of a connection ask for.
enum Wish {
    Lines(Vec<u8>),
    WebSocket { answer: Vec<u8>, rest: Vec<u8>, owner: Owner, token: Option<Arc<str>> },
    Refused(Vec<u8>),
    Gone,
}

struct Handshake<'a, R, W> {
    read: R,
    write: W,
    address: Address,
    shared: &'a Shared,
    /// Whether this kind of socket also carries lines.
    lines: bool,
}

impl<R, W> Handshake<'_, R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    async fn run(mut self) -> io::Result<Option<Carrier>> {
        let limits = &self.shared.limits;
        let wish = match timeout(limits.transport.handshake_time, self.wish()).await {
            Ok(wish) => wish?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        match wish {
            Wish::Gone => Ok(None),
            Wish::Refused(answer) => self.refuse(&answer).await.map(|()| None),
            Wish::Lines(read) => {
                let Some(place) = self.place() else {
                    let full = RpcError::invalid_request("this exec-server has too many connections");
                    return self.refuse(&refusal_line(&full)).await.map(|()| None);
                };
                let reader = MessageReader::lines(self.read, read, limits);
                let peer = self.address.into();
                Ok(Some(carrier(reader, self.write, place, Framing::Lines, (Owner::default(), peer))))
            }
            Wish::WebSocket { answer, rest, owner, token } => {
                let Some(place) = self.place() else {
                    return self.refuse(&http::full(SystemTime::now())).await.map(|()| None);
                };
                timeout(limits.transport.handshake_time, self.write.write_all(&answer)).await??;
                let mut reader = MessageReader::web_socket(self.read, rest, limits);
                if !self.lines && self.shared.auth.is_open() {
                    reader = reader.of_stranger();
                }
                let peer = Peer { address: self.address, token };
                Ok(Some(carrier(reader, self.write, place, Framing::WebSocket, (owner, peer))))
            }
        }
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.connections).try_acquire_owned().ok()
    }

    async fn wish(&mut self) -> io::Result<Wish> {
        let mut bytes = Vec::with_capacity(FIRST_READ_BYTES);
        if self.read.read_buf(&mut bytes).await? == 0 {
            return Ok(Wish::Gone);
        }
        let lines = self.lines && (bytes[0] == b'{' || bytes[0].is_ascii_whitespace());
        match lines {
            // A token can't be shown on lines, so they would be a way around it.
            true if !self.shared.auth.is_open() => {
                self.shared.observer.refused(self.address.clone().into(), "lines carry no token");
                Ok(Wish::Refused(refusal_line(&RpcError::token_wanted())))
            }
            true => Ok(Wish::Lines(bytes)),
            false => self.upgrade(bytes).await,
        }
    }

    async fn upgrade(&mut self, mut bytes: Vec<u8>) -> io::Result<Wish> {
        let limit = self.shared.limits.transport.http_head_bytes;
        let mut scanned = 0;
        loop {
            // The first bytes are parsed at once, so that what is not HTTP is told early.
            if scanned == 0 || http::has_head_end(&bytes, scanned) {
                let now = SystemTime::now();
                match http::respond(&bytes, &self.shared.auth, &self.shared.observer, now) {
                    Outcome::Upgrade { head, .. } | Outcome::Answer { head, .. } if head > limit => {
                        return Ok(Wish::Refused(http::head_too_large(now)));
                    }
                    Outcome::Upgrade { answer, head, owner, token } => {
                        let rest = bytes.split_off(head);
                        return Ok(Wish::WebSocket { answer, rest, owner, token });
                    }
                    Outcome::Answer { answer, why, .. } => {
                        if let Some(why) = why {
                            self.shared.observer.refused(self.address.clone().into(), why);
                        }
                        return Ok(Wish::Refused(answer));
                    }
                    Outcome::Partial => {}
                }
            }
            if bytes.len() > limit {
                return Ok(Wish::Refused(http::head_too_large(SystemTime::now())));
            }
            scanned = bytes.len();
            if self.read.read_buf(&mut bytes).await? == 0 {
                return Ok(Wish::Gone);
            }
        }
    }

    /// Says why, and lets the peer read it.
    async fn refuse(&mut self, answer: &[u8]) -> io::Result<()> {
        let farewell = async {
            self.write.write_all(answer).await?;
            self.write.shutdown().await?;
            let mut rest = (&mut self.read).take(LINGER_BYTES);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(|_| ())
        };
        timeout(LINGER_TIME, farewell).await.unwrap_or(Ok(()))
    }
}

fn carrier(
    reader: MessageReader,
    sink: impl AsyncWrite + Send + Unpin + 'static,
    place: OwnedSemaphorePermit,
    framing: Framing,
    (owner, peer): (Owner, Peer),
) -> Carrier {
    Carrier { reader, sink: Box::new(Counted { sink, _place: place }), framing, owner, peer }
}

/// A refusal for a peer that speaks lines (4.3).
fn refusal_line(error: &RpcError) -> Vec<u8> {
    let mut line = Vec::new();
    envelope::failure(&RequestId::Number(-1), error, &mut line);
    line.push(b'\n');
    line
}

/// A sink that holds its connection's place.
struct Counted<W> {
    sink: W,
    _place: OwnedSemaphorePermit,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.sink).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.sink).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.sink.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
