//! What the targets share: how they are run, a reader that is fed in pieces, places for files, frames.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use codex_exec_protocol::relay::{RelayData, RelayMessageFrame, relay_message_frame};
use codex_exec_server::transport::{Event, MessageReader};
use prost::Message as _;
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
                Ok(Event::Message(message)) => {
                    assert!(message.len() <= longest, "a message beyond its bound")
                }
                Ok(Event::Ping(payload) | Event::Pong(payload)) => assert!(payload.len() <= 125),
                Ok(Event::Close(_) | Event::End) | Err(_) => break,
            }
        }
        assert!(matches!(reader.next().await, Ok(Event::End)));
    });
}

/// A directory for what a target has to find in files; in memory, where there is one.
pub fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

/// A data frame of a relay.
pub fn data_frame(stream_id: &str, seq: u32, payload: &[u8]) -> Bytes {
    let data =
        RelayData { seq, segment_count: 1, payload: Bytes::copy_from_slice(payload), ..RelayData::default() };
    let frame = RelayMessageFrame {
        version: 1,
        stream_id: stream_id.to_owned(),
        body: Some(relay_message_frame::Body::Data(data)),
        ..RelayMessageFrame::default()
    };
    frame.encode_to_vec().into()
}

/// A target: what is done with each input. Built by `cargo fuzz`, libFuzzer makes the inputs; else the program takes them
/// from the files, or directories of files, that it is given.
#[macro_export]
macro_rules! target {
    (|$input:ident: $kind:ty| $body:expr) => {
        #[cfg(fuzzing)]
        ::libfuzzer_sys::fuzz_target!(|$input: $kind| $body);

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            fn run($input: $kind) {
                $body
            }
            $crate::for_each_input(|bytes| {
                let bytes = ::arbitrary::Unstructured::new(bytes);
                if let Ok(input) = <$kind as ::arbitrary::Arbitrary>::arbitrary_take_rest(bytes) {
                    run(input);
                }
            })
        }
    };
}

/// Calls `run` with the content of each file that the arguments name.
///
/// # Errors
/// When one can't be read.
pub fn for_each_input(run: impl Fn(&[u8])) -> std::io::Result<()> {
    let mut waiting: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(entries(&path)?);
        } else {
            run(&std::fs::read(&path)?);
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}
