//! A websocket through a rendezvous that carries one relay stream (`remote.md` section 9).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_relay::{EXECUTOR_STOPPED, HarnessError, HarnessStream, SendError};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Interval;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use super::pings::pings;
use crate::client::options::ClientOptions;
use crate::registry::Socket;

/// Why a stream was not opened, or is over.
#[derive(Debug, thiserror::Error)]
pub(in crate::client) enum RelayError {
    #[error(transparent)]
    Stream(#[from] HarnessError),
    #[error("the rendezvous sent a text message, which no relay does")]
    Text,
    #[error("the rendezvous ended the connection")]
    Ended,
    #[error("the rendezvous has shown no sign of life for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Send(SendError),
    #[error("the connection to the rendezvous failed: {0}")]
    Socket(#[from] Box<WsError>),
}

impl From<RelayError> for io::Error {
    fn from(error: RelayError) -> Self {
        Self::other(error)
    }
}

/// The receiving half: takes frames from the rendezvous and yields whole messages.
pub(in crate::client) struct RelayReader {
    socket: SplitStream<Socket>,
    stream: Arc<Mutex<HarnessStream>>,
    silence: Duration,
    control: Arc<Notify>,
    /// The executor said that it ends.
    stopped: bool,
}

/// The sending half: encrypts messages where the relay does, and sends them as frames.
pub(in crate::client) struct RelayWriter {
    socket: SplitSink<Socket, Message>,
    stream: Arc<Mutex<HarnessStream>>,
    ping: Interval,
    /// A ping is due and was not sent yet.
    owes_ping: bool,
    /// The reader gave the stream something to send.
    control: Arc<Notify>,
}

/// Opens the stream on its websocket: resume, and for Noise the handshake and its answer.
pub(in crate::client) async fn open(
    socket: Socket,
    stream: HarnessStream,
    options: &ClientOptions,
) -> Result<(RelayReader, RelayWriter), RelayError> {
    let (sink, socket) = socket.split();
    let stream = Arc::new(Mutex::new(stream));
    let ping = pings(options);
    let control = Arc::new(Notify::new());
    let (shared, owes_ping) = (Arc::clone(&stream), false);
    let mut writer =
        RelayWriter { socket: sink, stream: shared, ping, owes_ping, control: Arc::clone(&control) };
    let mut reader = RelayReader { socket, stream, silence: options.silence_time, control, stopped: false };
    writer.transmit().await?;
    writer.flush_socket().await?;
    while !reader.stream.lock().is_open() {
        reader.receive().await?;
    }
    Ok((reader, writer))
}

impl RelayReader {
    /// Whether the executor said that it ends.
    pub(in crate::client) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The next message; none when the rendezvous ended the connection. Cancel-safe.
    pub(in crate::client) async fn next(&mut self) -> Result<Option<Utf8Bytes>, RelayError> {
        loop {
            if let Some(message) = self.stream.lock().next_message() {
                let text = Utf8Bytes::try_from(message);
                return text.map(Some).map_err(|error| Box::new(WsError::from(error)).into());
            }
            match self.receive().await {
                Err(RelayError::Ended) => return Ok(None),
                Err(RelayError::Stream(HarnessError::Reset(reason))) if reason == EXECUTOR_STOPPED => {
                    self.stopped = true;
                    return Ok(None);
                }
                received => received?,
            }
        }
    }

    /// Takes one message of the websocket.
    async fn receive(&mut self) -> Result<(), RelayError> {
        let message = tokio::time::timeout(self.silence, self.socket.next()).await;
        match message.map_err(|_| RelayError::Silent(self.silence))? {
            None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Err(RelayError::Ended),
            Some(Err(error)) => Err(Box::new(error).into()),
            Some(Ok(Message::Binary(frame))) => {
                let mut stream = self.stream.lock();
                stream.receive(frame)?;
                if stream.has_control() {
                    self.control.notify_one();
                }
                Ok(())
            }
            Some(Ok(Message::Text(_))) => Err(RelayError::Text),
            // Pings are answered by the library; a close is followed by the stream's end.
            Some(Ok(_)) => Ok(()),
        }
    }
}

impl RelayWriter {
    /// Queues one message; [`Self::flush`] sends it.
    pub(in crate::client) async fn feed(&mut self, message: Bytes) -> Result<(), RelayError> {
        self.stream.lock().send(message).map_err(RelayError::Send)?;
        self.transmit().await
    }

    /// Hands all frames to the socket, which takes them at its own pace.
    async fn transmit(&mut self) -> Result<(), RelayError> {
        loop {
            let frame = self.stream.lock().next_transmit().map_err(HarnessError::from)?;
            let Some(frame) = frame else { return Ok(()) };
            self.socket.feed(Message::Binary(frame)).await.map_err(Box::new)?;
        }
    }

    async fn flush_socket(&mut self) -> Result<(), RelayError> {
        Ok(self.socket.flush().await.map_err(Box::new)?)
    }

    /// Sends what was fed.
    pub(in crate::client) async fn flush(&mut self) -> Result<(), RelayError> {
        self.flush_socket().await
    }

    /// Waits until a ping or an ack is due. Cancel-safe.
    pub(in crate::client) async fn chore(&mut self) {
        tokio::select! {
            _ = self.ping.tick() => self.owes_ping = true,
            () = self.control.notified() => {}
        }
    }

    /// Asks the rendezvous for a sign of life, and tells the executor what was taken, if that is due.
    pub(in crate::client) async fn do_chores(&mut self) -> Result<(), RelayError> {
        if std::mem::take(&mut self.owes_ping) {
            self.socket.feed(Message::Ping(Bytes::new())).await.map_err(Box::new)?;
        }
        self.transmit().await?;
        self.flush_socket().await
    }

    /// Tells the executor, and then the rendezvous, that nothing more comes.
    pub(in crate::client) async fn close(&mut self) -> Result<(), RelayError> {
        let goodbye = self.stream.lock().goodbye();
        self.socket.feed(Message::Binary(goodbye)).await.map_err(Box::new)?;
        Ok(self.socket.close().await.map_err(Box::new)?)
    }
}
