//! Websocket frames as a hostile client may send them (2.3).
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::Limits;
use codex_exec_server::transport::MessageReader;
use codex_fuzz::{Pieces, read_all, target};

target!(|input: &[u8]| {
    let limits = Limits { frame_bytes: 1 << 10, message_bytes: 1 << 12, ..Limits::default() };
    read_all(MessageReader::web_socket(Pieces::new(input), Vec::new(), &limits), limits.message_bytes);
});
