//! What the targets share: how they are run, a reader that is fed in pieces, places for files, frames.

#[cfg(feature = "server")]
mod server;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use codex_exec_protocol::relay::{RelayData, RelayMessageFrame, relay_message_frame};
use prost::Message as _;
#[cfg(feature = "server")]
pub use server::{Pieces, directory, read_all};

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
