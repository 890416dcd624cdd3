//! Lines on a pipe or Unix socket (3).
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::Limits;
use codex_exec_server::transport::MessageReader;
use codex_fuzz::{Pieces, read_all, target};

target!(|input: &[u8]| {
    let mut limits = Limits::default();
    limits.transport.line_bytes = 1 << 10;
    let most = limits.transport.line_bytes;
    read_all(MessageReader::lines(Pieces::new(input), Vec::new(), &limits), most);
});
