//! Bodies of HTTP answers that are packed (21.2): in small pieces, and the same however they arrive.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::http::unpacked;
use codex_fuzz::target;

target!(|input: (bool, u8, &[u8])| {
    let (zstd, chunk, body) = input;
    let (at_once, whole) = unpacked(zstd, body, body.len());
    let (by_and_by, also) = unpacked(zstd, body, usize::from(chunk) + 1);
    assert_eq!(whole, also);
    if whole {
        assert!(at_once == by_and_by);
    } else {
        assert!(at_once.starts_with(&by_and_by) || by_and_by.starts_with(&at_once));
    }
});
