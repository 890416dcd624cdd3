//! What a registry and rendezvous are sent and answer (remote.md 3, 6, 8.1): bodies, queries, token files.
#![cfg_attr(fuzzing, no_main)]

use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::Duration;

use codex_exec_protocol::registry as wire;
use codex_fuzz::target;
use codex_rendezvous::ticket::{HarnessTicket, Signer, Wish};
use codex_rendezvous::tokens;
use serde::Serialize;
use serde::de::DeserializeOwned;

static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::new);

fn round<T: DeserializeOwned + Serialize + Debug>(body: &str) {
    let Ok(read) = serde_json::from_str::<T>(body) else { return };
    let written = serde_json::to_value(&read).expect("a body can be written");
    let again: T = serde_json::from_value(written.clone()).expect("and read again");
    assert_eq!(serde_json::to_value(&again).expect("and written again"), written);
    let _ = format!("{read:?}");
}

target!(|text: &str| {
    round::<wire::CloudRegister>(text);
    round::<wire::CloudRegistered>(text);
    round::<wire::ExecutorRegistered>(text);
    round::<wire::EnvironmentRegistered>(text);
    round::<wire::NoiseRegister>(text);
    round::<wire::NoiseRegistered>(text);
    round::<wire::Connect>(text);
    round::<wire::Connected>(text);
    round::<wire::Validate>(text);
    round::<wire::Validated>(text);
    round::<wire::ErrorBody>(text);
    if let Ok(wish) = SIGNER.read(text) {
        assert!(!matches!(wish, Wish::Harness(_)), "nobody else can sign");
    }
    if !text.is_empty() {
        ticket_of_ours(text);
    }
    if let Ok(grants) = tokens::parse_file(text) {
        assert!(grants.len() <= text.lines().count());
    }
});

/// No part of a ticket is empty.
fn ticket_of_ours(text: &str) {
    let ticket = HarnessTicket {
        environment: text.to_owned(),
        registration: text.chars().rev().collect(),
        account: "a".to_owned(),
        node: None,
        expires: Duration::from_secs(text.len() as u64),
    };
    let Ok(Wish::Harness(read)) = SIGNER.read(&SIGNER.harness_query(&ticket)) else {
        panic!("a ticket of ours")
    };
    assert_eq!(read, ticket);
}
