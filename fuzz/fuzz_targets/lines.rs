//! Lines on a pipe or Unix socket (3).
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::Limits;
use codex_exec_server::transport::MessageReader;
use codex_fuzz::{Pieces, read_all, target};

target!(|input: &[u8]| {
    let limits = Limits { line_bytes: 1 << 10, ..Limits::default() };
    read_all(MessageReader::lines(Pieces::new(input), Vec::new(), &limits), limits.line_bytes);
});
