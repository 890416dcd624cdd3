//! The first bytes of a TCP connection (2.2).
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::transport::first_answer;
use codex_fuzz::target;

target!(|input: &[u8]| {
    if let Some((answer, head)) = first_answer(input) {
        assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
        assert!(head <= input.len(), "more was taken than came");
    }
});
