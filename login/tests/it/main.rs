//! Tests of sign-in over its public face: real files, processes, HTTP servers and keyrings.

mod crash;
mod documents;
mod file_store;
mod keyring;
mod manager;
mod processes;
mod recovery;
mod requests;
mod support;
mod winning;
