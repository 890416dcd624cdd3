//! The rendezvous over real sockets, with scripted executors and harnesses, following `remote.md` section 10.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod audit;
mod broker;
mod cluster;
mod limits;
mod monitoring;
mod operator;
mod plain;
mod registry;
mod routing;
mod slow;
mod status;
mod support;
mod threads;
mod tls;
