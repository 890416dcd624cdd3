//! Questions to a program's resolver (21.3): an answer is one, to this question, and with at most one address.
#![cfg_attr(fuzzing, no_main)]

use codex_fuzz::target;
use codex_tcp_stack::fuzzing::resolved;

target!(|question: &[u8]| {
    let Some(answer) = resolved(question) else { return };
    assert_eq!(answer[..2], question[..2], "the question's id");
    assert!(answer[2] & 0x80 != 0, "an answer");
    let count = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    assert!(count(4) <= 1 && count(6) <= 1 && count(8) == 0);
    assert!(answer.len() <= question.len() + 12 + 28, "{} of {}", answer.len(), question.len());
});
