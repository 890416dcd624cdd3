//! Messages, and the params of every kind of method (4).
#![no_main]

use codex_exec_protocol::{Incoming, filesystem as fs, http, process};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match Incoming::parse(input) {
        Ok(Incoming::Request { params, .. } | Incoming::Notification { params, .. }) => {
            let _ = serde_json::from_str::<process::StartParams>(params.as_ref());
            let _ = serde_json::from_str::<process::WriteParams>(params.as_ref());
            let _ = serde_json::from_str::<fs::WalkParams>(params.as_ref());
            let _ = serde_json::from_str::<fs::WatchMissingParams>(params.as_ref());
            let _ = serde_json::from_str::<http::RequestParams>(params.as_ref());
        }
        Ok(Incoming::Answer { .. } | Incoming::Failure { .. }) => {}
        Err(error) => assert!(error.code.0 == -32600 && !error.message.is_empty()),
    }
});
