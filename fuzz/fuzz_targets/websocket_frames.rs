//! Websocket frames as a hostile client may send them (2.3).
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::Limits;
use codex_exec_server::transport::MessageReader;
use codex_fuzz::{Pieces, read_all, target};

target!(|input: &[u8]| {
    let mut limits = Limits::default();
    (limits.transport.frame_bytes, limits.transport.message_bytes) = (1 << 10, 1 << 12);
    read_all(
        MessageReader::web_socket(Pieces::new(input), Vec::new(), &limits),
        limits.transport.message_bytes,
    );
});
