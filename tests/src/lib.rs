//! Test support: starts the built binary and talks to it.

pub mod balancer;
pub mod binary;
pub mod client;
pub mod console;
pub mod cutter;
pub mod executor;
pub mod far;
pub mod follower;
pub mod http;
pub mod hub;
pub mod issuer;
pub mod link;
pub mod login;
pub mod machine;
pub mod mcp;
pub mod message_cutter;
pub mod operator;
pub mod proxy;
pub mod pty;
pub mod registry;
pub mod relay;
pub mod rendezvous;
pub mod secret_service;
pub mod secrets;
pub mod server;
pub mod tls;
pub mod turn;

pub use balancer::Balancer;
pub use client::{Ended, Refusal, TestClient};
pub use cutter::Cutter;
pub use executor::{Executor, ExecutorBuilder};
pub use follower::Follower;
pub use hub::Hub;
pub use message_cutter::MessageCutter;
pub use registry::{Answer, ScriptedRegistry};
pub use rendezvous::ScriptedRendezvous;
pub use server::{Server, ServerBuilder};

use std::ffi::OsString;
use std::time::Duration;

/// How long any wait may last before the test fails; far more than a healthy server ever needs.
pub const GUARD: Duration = Duration::from_secs(60);

/// Decodes the base64 of a wire member; panics on anything else.
pub fn bytes_of(value: &serde_json::Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_else(|| panic!("no base64 string: {value}"));
    base64_simd::STANDARD.decode_to_vec(text).unwrap_or_else(|error| panic!("bad base64 {text:?}: {error}"))
}

/// Encodes bytes as the wire's base64.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::STANDARD.encode_to_string(bytes.as_ref())
}

/// This moment as RFC 3339 in UTC. What a test writes down is as old as the test's run, on whatever day that is.
pub fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// How many rounds a test of chance makes: `daily` ones, or `thorough` ones where `CODEX_E2E_THOROUGH` is set.
pub fn rounds(daily: u64, thorough: u64) -> u64 {
    if std::env::var_os("CODEX_E2E_THOROUGH").is_some() { thorough } else { daily }
}

/// The variables by which libfaketime moves a program's clock, as far as they are set for this test. A program that gets
/// an environment of its own needs them to see the test's date (`.ci/later`).
pub fn clock() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name == "LD_PRELOAD" || name == "NO_FAKE_STAT" || name.starts_with("FAKETIME")
    })
}
