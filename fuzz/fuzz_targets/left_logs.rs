//! What a server that died has left of a program: its log's memory and its record, as the next server reads them.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::process::read_left;
use codex_fuzz::target;

target!(|bytes: &[u8]| read_left(bytes));
