//! The examples of the pages: each message decodes as its method's, and has no member that the types don't know.

use std::collections::BTreeMap;

use codex_exec_protocol::{
    Method, Notification, discovery, environment, filesystem as files, http, network, process, session, tcp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};

const PAGES: [(&str, &str); 3] = [
    ("protocol.md", include_str!("../../../../docs/protocol.md")),
    ("extensions.md", include_str!("../../../../docs/extensions.md")),
    ("network.md", include_str!("../../../../docs/network.md")),
];

type Check = fn(&Value) -> Result<(), String>;

/// How params and results of each method are checked.
fn methods() -> BTreeMap<&'static str, (Check, Check)> {
    fn entry<M: Method>() -> (&'static str, (Check, Check)) {
        (M::NAME, (known::<M::Params>, known::<M::Result>))
    }
    BTreeMap::from([
        entry::<session::Initialize>(),
        entry::<session::End>(),
        entry::<environment::Info>(),
        entry::<environment::Status>(),
        entry::<process::Start>(),
        entry::<process::Read>(),
        entry::<process::Write>(),
        entry::<process::Signal>(),
        entry::<process::Terminate>(),
        entry::<process::Resize>(),
        entry::<process::CloseStdin>(),
        entry::<process::List>(),
        entry::<process::ListLogs>(),
        entry::<process::Wait>(),
        entry::<files::ReadFile>(),
        entry::<files::WriteFile>(),
        entry::<files::CreateDirectory>(),
        entry::<files::GetMetadata>(),
        entry::<files::Canonicalize>(),
        entry::<files::ReadDirectory>(),
        entry::<files::Walk>(),
        entry::<files::Remove>(),
        entry::<files::Copy>(),
        entry::<files::Open>(),
        entry::<files::ReadBlock>(),
        entry::<files::WriteBlock>(),
        entry::<files::Close>(),
        entry::<files::WatchMissing>(),
        entry::<files::GetEntry>(),
        entry::<files::List>(),
        entry::<files::Hash>(),
        entry::<files::Link>(),
        entry::<files::Place>(),
        entry::<http::Request>(),
        entry::<network::PolicyRequest>(),
        entry::<process::Attach>(),
        entry::<discovery::ReadConfig>(),
        entry::<discovery::DiscoverRoots>(),
        entry::<discovery::Discover>(),
        entry::<tcp::Connect>(),
        entry::<tcp::Listen>(),
        entry::<tcp::Accept>(),
        entry::<tcp::Read>(),
        entry::<tcp::Write>(),
        entry::<tcp::Shutdown>(),
        entry::<tcp::Close>(),
    ])
}

fn notifications() -> BTreeMap<&'static str, Check> {
    fn entry<N: Notification>() -> (&'static str, Check) {
        (N::NAME, known::<N::Params>)
    }
    BTreeMap::from([
        entry::<session::Initialized>(),
        entry::<process::Output>(),
        entry::<process::Exited>(),
        entry::<process::Closed>(),
        entry::<files::MissingChanged>(),
        entry::<http::BodyDelta>(),
        entry::<network::PolicyDecision>(),
    ])
}

#[test]
fn every_example_is_a_message_of_its_method() {
    let (methods, notifications) = (methods(), notifications());
    let (mut count, mut wrong) = (0, Vec::new());
    for (page, text) in PAGES {
        // An answer belongs to the request with its id that stands last before it in the same block.
        for block in text.split("```json").skip(1).filter_map(|rest| rest.split("```").next()) {
            let mut asked: BTreeMap<String, String> = BTreeMap::new();
            for message in Deserializer::from_str(block).into_iter::<Value>() {
                let message = message.unwrap_or_else(|error| panic!("{page}: {error} in {block}"));
                let method = message["method"].as_str().map(str::to_owned);
                let id = message.get("id").map(Value::to_string);
                let outcome = match (&method, &id, message.get("result")) {
                    (Some(method), Some(id), _) => {
                        asked.insert(id.clone(), method.clone());
                        methods.get(method.as_str()).map(|(params, _)| params(&message["params"]))
                    }
                    (Some(method), None, _) => {
                        notifications.get(method.as_str()).map(|params| params(&message["params"]))
                    }
                    (None, Some(id), Some(result)) => match asked.get(id) {
                        Some(method) => methods.get(method.as_str()).map(|(_, check)| check(result)),
                        None => continue,
                    },
                    _ => continue,
                };
                count += 1;
                match outcome.unwrap_or_else(|| Err("unknown method".to_owned())) {
                    Ok(()) => {}
                    Err(error) => wrong.push(format!("{page}: {error}: {message}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "only {count} examples were found");
}

/// Decodes, and looks whether everything that was said is said again.
fn known<T: DeserializeOwned + Serialize>(value: &Value) -> Result<(), String> {
    let decoded: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(decoded).map_err(|error| error.to_string())?;
    match forgotten(value, &again) {
        Some(member) => Err(format!("no such member: {member}")),
        None => Ok(()),
    }
}

/// A member of `said` that `again` does not have.
fn forgotten(said: &Value, again: &Value) -> Option<String> {
    match (said, again) {
        (Value::Object(said), again) => said.iter().find_map(|(name, value)| match again.get(name) {
            Some(again) => forgotten(value, again),
            None => (!value.is_null()).then(|| name.clone()),
        }),
        (Value::Array(said), Value::Array(again)) => {
            said.iter().zip(again).find_map(|(said, again)| forgotten(said, again))
        }
        _ => None,
    }
}
