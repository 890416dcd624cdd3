//! Incoming messages and control frames, within the bounds of section 2.3 and 3.

mod buffer;
mod lines;
mod parsed;
mod websocket;

use tokio::io::AsyncRead;

use super::event::{PeerEvent, ReadError};
use super::inlet::Inbox;
use crate::Limits;
use buffer::Buffer;
use lines::Lines;
use parsed::Parsed;
use websocket::WebSocket;

/// How far a reader looks ahead for the end of a connection. Chosen for speed.
const READ_AHEAD_BYTES: usize = 256 << 10;

enum Parser {
    WebSocket(WebSocket),
    Lines(Lines),
}

/// Reads events from a socket or pipe.
///
/// A message is lent as a slice of the reader's own buffer. The buffer grows as bytes arrive, whatever a
/// header claims, and is given back while the reader waits with nothing in hand.
pub struct MessageReader {
    intake: Intake,
    finished: bool,
}

enum Intake {
    Bytes(ByteReader),
    Stream(Inbox),
}

struct ByteReader {
    source: Box<dyn AsyncRead + Send + Unpin>,
    buffer: Buffer,
    parser: Parser,
}

impl MessageReader {
    /// Reads websocket frames that a client sends (masked); `already_read` came before what `read` yields.
    pub fn web_socket(
        read: impl AsyncRead + Send + Unpin + 'static,
        already_read: Vec<u8>,
        limits: &Limits,
    ) -> Self {
        let parser = WebSocket::new(limits.transport.frame_bytes, limits.transport.message_bytes);
        Self::new(Box::new(read), already_read, Parser::WebSocket(parser))
    }

    /// Reads lines of at most `limits.transport.line_bytes`; `already_read` came before what `read` yields.
    pub fn lines(
        read: impl AsyncRead + Send + Unpin + 'static,
        already_read: Vec<u8>,
        limits: &Limits,
    ) -> Self {
        Self::new(Box::new(read), already_read, Parser::Lines(Lines::new(limits.transport.line_bytes)))
    }

    /// Reads what is put into a virtual stream.
    pub(super) fn stream(inbox: Inbox) -> Self {
        Self { intake: Intake::Stream(inbox), finished: false }
    }

    fn new(source: Box<dyn AsyncRead + Send + Unpin>, already_read: Vec<u8>, parser: Parser) -> Self {
        let reader = ByteReader { source, buffer: Buffer::new(already_read), parser };
        Self { intake: Intake::Bytes(reader), finished: false }
    }

    /// Takes only small messages until [`Self::trust`]: nobody knows yet who sends them.
    pub(super) fn of_stranger(mut self) -> Self {
        self.set_stranger(true);
        self
    }

    /// Takes messages up to the bounds from now on.
    pub fn trust(&mut self) {
        self.set_stranger(false);
    }

    fn set_stranger(&mut self, stranger: bool) {
        if let Intake::Bytes(ByteReader { parser: Parser::WebSocket(parser), .. }) = &mut self.intake {
            parser.set_stranger(stranger);
        }
    }

    /// Waits until the peer has closed, for whoever takes no events meanwhile. It reads ahead for that, within a bound;
    /// beyond it nothing is noticed. Lines may end while their answers are still wanted: there it waits for ever.
    /// Cancel-safe, and loses no event.
    pub async fn closed(&mut self) {
        match &mut self.intake {
            Intake::Bytes(reader) => reader.closed().await,
            Intake::Stream(inbox) => inbox.closed().await,
        }
    }

    /// The next event. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// After an error, a close frame or [`PeerEvent::End`] nothing more comes: every later call gives `End`.
    pub async fn next(&mut self) -> Result<PeerEvent<'_>, ReadError> {
        if self.finished {
            return Ok(PeerEvent::End);
        }
        let reader = match &mut self.intake {
            Intake::Bytes(reader) => reader,
            Intake::Stream(inbox) => return Ok(inbox.next().await),
        };
        let found = match reader.find().await {
            Ok(found) => found,
            Err(error) => {
                self.finished = true;
                reader.buffer = Buffer::new(Vec::new());
                return Err(error);
            }
        };
        let bytes = &reader.buffer.bytes;
        Ok(match found {
            Some(Parsed::Message(range)) => PeerEvent::Message(&bytes[range]),
            Some(Parsed::Ping(range)) => PeerEvent::Ping(&bytes[range]),
            Some(Parsed::Pong(range)) => PeerEvent::Pong(&bytes[range]),
            Some(Parsed::Close(code)) => {
                self.finished = true;
                PeerEvent::Close(code)
            }
            None => {
                self.finished = true;
                PeerEvent::End
            }
        })
    }
}

impl ByteReader {
    async fn closed(&mut self) {
        let Parser::WebSocket(parser) = &self.parser else { return std::future::pending().await };
        loop {
            if parser.has_close(self.buffer.unparsed()) {
                return;
            }
            if self.buffer.unparsed().len() >= READ_AHEAD_BYTES {
                return std::future::pending().await;
            }
            if matches!(self.buffer.fill(&mut *self.source).await, Ok(0) | Err(_)) {
                return;
            }
        }
    }

    async fn find(&mut self) -> Result<Option<Parsed>, ReadError> {
        loop {
            let found = match &mut self.parser {
                Parser::WebSocket(parser) => parser.step(&mut self.buffer)?,
                Parser::Lines(parser) => parser.step(&mut self.buffer)?,
            };
            if found.is_some() {
                return Ok(found);
            }
            if self.buffer.fill(&mut *self.source).await? == 0 {
                return match &mut self.parser {
                    Parser::WebSocket(_) => Ok(None),
                    Parser::Lines(parser) => Ok(parser.last(&mut self.buffer)),
                };
            }
        }
    }
}

impl std::fmt::Debug for MessageReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageReader").field("finished", &self.finished).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
