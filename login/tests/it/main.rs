//! Tests of sign-in over its public face: real files, processes, HTTP servers and keyrings.

// A test's helpers may fail as loudly as the test itself; children talk to their parents on stdout.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod crash;
mod documents;
mod file_store;
mod keyring;
mod manager;
mod processes;
mod recovery;
mod requests;
mod secrets;
mod support;
mod winning;
