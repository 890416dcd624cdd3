//! The logs on a real disk.

// A test's helpers may fail as loudly as the test itself; the writer that is killed talks to its parent on stdout.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod damage;
mod ends;
mod kills;
mod pages;
mod support;
