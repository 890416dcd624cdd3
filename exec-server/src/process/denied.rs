//! Tells whether a program failed because of its sandbox (14.4), and lets go of what the sandbox needed.

use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use codex_exec_protocol::process::{Chunk, ExitDetails, Stream};

use crate::blocking;
use crate::sandbox::Confined;

/// What programs say when something was refused.
const WORDS: [&str; 7] = [
    "operation not permitted",
    "permission denied",
    "read-only file system",
    "seccomp",
    "sandbox",
    "landlock",
    "failed to write file",
];
/// As an exit code on pipes.
const KILLED_BY_SIGSYS: i32 = 128 + libc::SIGSYS;

static SEARCH: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS).ok());

/// Whether a sandboxed program that ended like this seems to have met its sandbox.
pub(super) fn is_denied<'c>(
    code: i32,
    details: &ExitDetails,
    output: impl Iterator<Item = &'c Chunk<Bytes>>,
) -> bool {
    if code == 0 {
        return false;
    }
    code == KILLED_BY_SIGSYS || details.signal == Some(libc::SIGSYS) || complains(output)
}

/// Each stream on its own: words may lie across chunks, but not across streams.
fn complains<'c>(output: impl Iterator<Item = &'c Chunk<Bytes>>) -> bool {
    let Some(search) = &*SEARCH else { return false };
    let mut streams: [Vec<u8>; 3] = Default::default();
    for chunk in output {
        let [stdout, stderr, pty] = &mut streams;
        match chunk.stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
            Stream::Pty => pty,
        }
        .extend_from_slice(&chunk.chunk);
    }
    streams.iter().any(|bytes| search.is_match(bytes))
}

/// Lets go of what a sandbox held on the disk, off the event loop; for good if something that lives on is in it.
pub(super) fn release(confined: Arc<Confined>, lives_on: bool) {
    if confined.held.is_empty() {
        return;
    }
    let release = move || {
        if lives_on && let Some(confined) = Arc::into_inner(confined) {
            confined.held.keep();
        }
    };
    blocking::spawn(release).detach();
}
