//! The wire between a server and its launchers: what is read is written as it was.
#![cfg_attr(fuzzing, no_main)]

use codex_fuzz::target;

target!(|bytes: &[u8]| codex_exec_server::sandbox::read_again(bytes));
