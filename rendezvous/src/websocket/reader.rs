//! Reads a client's websocket frames into messages.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::ready;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use codex_websocket::{FrameError, Head, Opcode, unmask};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Room on the stack for the beginning of a frame; what is larger is read into a buffer of its own. Chosen for speed.
const SCRATCH_BYTES: usize = 4 << 10;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// A binary message: one relay frame.
    Binary(Bytes),
    /// A text message; nothing here is sent as text.
    Text,
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// The client is done.
    Close,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection ended without a close frame.
    #[error("the connection ended without a close frame")]
    Ended,
    /// The system reported an error of the socket.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// A message over the bound.
    #[error("a message of more than {0} bytes")]
    TooBig(usize),
    /// Bytes that RFC 6455 does not allow.
    #[error("not a websocket frame: {0}")]
    Protocol(#[from] FrameError),
}

/// Reads frames off a connection and puts messages together.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    /// Bytes that belong to no payload under way.
    buffered: BytesMut,
    payload: Option<Payload>,
    /// The message so far, when it comes in fragments.
    fragments: Option<(Opcode, BytesMut)>,
    bound: usize,
}

/// A frame whose payload is being read.
#[derive(Debug)]
struct Payload {
    head: Head,
    bytes: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads messages of at most `bound` bytes.
    pub fn new(stream: R, bound: usize) -> Self {
        Self { stream, buffered: BytesMut::new(), payload: None, fragments: None, bound }
    }

    /// The next message or control frame. Nothing is lost when this is dropped half-way.
    ///
    /// # Errors
    /// When the connection ends or breaks, and for what RFC 6455 or the bound forbids.
    pub async fn next(&mut self) -> Result<ClientMessage, ReadError> {
        loop {
            if let Some(payload) = &mut self.payload {
                let missing = payload.head.length - payload.bytes.len();
                if missing == 0 {
                    if let Some(event) = self.finish()? {
                        return Ok(event);
                    }
                } else if self.stream.read_buf(&mut (&mut payload.bytes).limit(missing)).await? == 0 {
                    return Err(ReadError::Ended);
                }
            } else if let Some((head, bytes)) = Head::read(&self.buffered, self.fragments.is_some())? {
                self.begin(head, bytes)?;
            } else {
                self.read_some().await?;
            }
        }
    }

    /// Reads and forgets until the client has closed, or the connection ends.
    pub async fn drain(&mut self) {
        loop {
            match self.next().await {
                Ok(ClientMessage::Close) | Err(ReadError::Ended | ReadError::Broken(_)) => return,
                Ok(_) => {}
                // No frame can be told from another any more.
                Err(ReadError::TooBig(_) | ReadError::Protocol(_)) => break,
            }
        }
        self.payload = None;
        while self.read_some().await.is_ok() {
            self.buffered = BytesMut::new();
        }
    }

    /// Reads what there is, without keeping a buffer while waiting.
    async fn read_some(&mut self) -> Result<(), ReadError> {
        let Self { stream, buffered, .. } = self;
        let read = poll_fn(|cx| {
            let mut scratch = [MaybeUninit::<u8>::uninit(); SCRATCH_BYTES];
            let mut scratch = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut scratch))?;
            buffered.extend_from_slice(scratch.filled());
            std::task::Poll::Ready(std::io::Result::Ok(scratch.filled().len()))
        });
        if read.await? == 0 { Err(ReadError::Ended) } else { Ok(()) }
    }

    /// Takes a frame's head off the buffer, and as much of its payload as is there.
    fn begin(&mut self, head: Head, head_bytes: usize) -> Result<(), ReadError> {
        let so_far = match &self.fragments {
            Some((_, message)) if !head.opcode.is_control() => message.len(),
            _ => 0,
        };
        if head.length > self.bound - so_far.min(self.bound) {
            return Err(ReadError::TooBig(self.bound));
        }
        self.buffered.advance(head_bytes);
        let here = head.length.min(self.buffered.len());
        // Of its own size, so that a small message in a slow queue holds no large buffer.
        let mut bytes = BytesMut::with_capacity(head.length);
        bytes.put_slice(&self.buffered[..here]);
        self.buffered.advance(here);
        if self.buffered.is_empty() {
            self.buffered = BytesMut::new();
        }
        self.payload = Some(Payload { head, bytes });
        Ok(())
    }

    /// Makes a message of a payload that is complete, when it is the message's last.
    fn finish(&mut self) -> Result<Option<ClientMessage>, ReadError> {
        let Some(Payload { head, mut bytes }) = self.payload.take() else { return Ok(None) };
        unmask(&mut bytes, head.mask);
        let (opcode, message) = match head.opcode {
            Opcode::Close => return Ok(Some(ClientMessage::Close)),
            Opcode::Ping => return Ok(Some(ClientMessage::Ping(bytes.freeze()))),
            Opcode::Pong => return Ok(Some(ClientMessage::Pong)),
            Opcode::Continuation => {
                let Some((opcode, mut message)) = self.fragments.take() else {
                    return Err(FrameError::Continuation.into());
                };
                message.extend_from_slice(&bytes);
                (opcode, message)
            }
            opcode => (opcode, bytes),
        };
        if !head.last {
            self.fragments = Some((opcode, message));
            return Ok(None);
        }
        Ok(Some(if opcode == Opcode::Binary {
            ClientMessage::Binary(message.freeze())
        } else {
            ClientMessage::Text
        }))
    }
}
