//! What a keeper and its servers say: whatever comes breaks nothing, and what is read is written as it was.
#![cfg_attr(fuzzing, no_main)]

use codex_fuzz::target;

target!(|bytes: &[u8]| codex_children::keeper::check_packet(bytes));
