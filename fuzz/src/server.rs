//! What the server's targets share: a reader that is fed in pieces, and places for files.

use std::pin::Pin;
use std::task::{Context, Poll};

use codex_exec_server::transport::{MessageReader, PeerEvent};
use tokio::io::{AsyncRead, ReadBuf};

/// Gives its bytes in pieces of this many, so that every parser has to take up where it left off.
pub struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    size: usize,
}

impl Pieces {
    /// The first byte of the input chooses the pieces' size, the rest is what comes.
    pub fn new(input: &[u8]) -> Self {
        let (size, bytes) =
            input.split_first().map_or((1, input), |(size, rest)| (usize::from(*size) + 1, rest));
        Self { bytes: bytes.to_vec(), at: 0, size }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let end = (self.at + self.size.min(buf.remaining())).min(self.bytes.len());
        buf.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// Reads to the end; after an error or a close nothing more may come.
pub fn read_all(mut reader: MessageReader, longest: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        loop {
            match reader.next().await {
                Ok(PeerEvent::Message(message)) => {
                    assert!(message.len() <= longest, "a message beyond its bound")
                }
                Ok(PeerEvent::Ping(payload) | PeerEvent::Pong(payload)) => assert!(payload.len() <= 125),
                Ok(PeerEvent::Close(_) | PeerEvent::End) | Err(_) => break,
            }
        }
        assert!(matches!(reader.next().await, Ok(PeerEvent::End)));
    });
}

/// A directory for what a target has to find in files; in memory, where there is one.
pub fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}
