//! Messages, and the params of every kind of method (4).
#![cfg_attr(fuzzing, no_main)]

use codex_exec_protocol::{Incoming, filesystem as fs, http, process};
use codex_fuzz::target;

target!(|input: &[u8]| {
    match Incoming::parse(input) {
        Ok(Incoming::Request { params, .. } | Incoming::Notification { params, .. }) => {
            let _ = serde_json::from_str::<process::StartParams>(params);
            let _ = serde_json::from_str::<process::WriteParams>(params);
            let _ = serde_json::from_str::<fs::WalkParams>(params);
            let _ = serde_json::from_str::<fs::WatchMissingParams>(params);
            let _ = serde_json::from_str::<http::RequestParams>(params);
        }
        Ok(Incoming::Answer { .. } | Incoming::Failure { .. }) => {}
        Err(error) => assert!(error.code.0 == -32600 && !error.message.is_empty()),
    }
});
