//! Understands what a registry answers, be it a registration or an error (1.2).

use codex_exec_protocol::registry::{
    CloudRegistered, DIRECT_TRANSPORT, DirectRegistered, EnvironmentRegistered, ExecutorRegistered,
    NOISE_PROFILE, NoiseRegistered,
};
use codex_secret::Secret;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::Told;
use super::contract::Contract;
use super::error::{Cause, RemoteError};

/// Longest part of an error body that is shown, in characters.
const SHOWN_CHARACTERS: usize = 4096;

/// What a registry answers to a registration that it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The environment, or the executor id in contract C, as the registry names it.
    pub id: String,
    /// Contract A: the executor's own id.
    pub executor: Option<String>,
    /// Where to connect; holds a ticket.
    pub url: Secret,
    /// Contract E: part of every handshake.
    pub registration_id: Option<String>,
}

/// Reads a success's body. `asked` is the id that was registered.
pub(super) fn registration(
    contract: Contract,
    asked: Option<&str>,
    body: &[u8],
) -> Result<Registration, RemoteError> {
    Ok(match contract {
        Contract::Cloud => {
            let CloudRegistered { id, environment_id, url } = decode(contract, body)?;
            Registration { id: environment_id, executor: Some(id), url, registration_id: None }
        }
        Contract::Executor => {
            let ExecutorRegistered { executor_id, url } = decode(contract, body)?;
            Registration { id: executor_id, executor: None, url, registration_id: None }
        }
        Contract::Environment => {
            let EnvironmentRegistered { environment_id, url } = decode(contract, body)?;
            Registration { id: environment_id, executor: None, url, registration_id: None }
        }
        Contract::Noise => {
            let NoiseRegistered { environment_id, url, security_profile, executor_registration_id } =
                decode(contract, body)?;
            same_environment(&environment_id, asked)?;
            if security_profile != NOISE_PROFILE {
                return Err(RemoteError::Protocol(format!(
                    "environment registry returned unsupported security profile `{}`",
                    printable(&security_profile, 100)
                )));
            }
            Registration {
                id: environment_id,
                executor: None,
                url,
                registration_id: Some(executor_registration_id),
            }
        }
        Contract::Direct => {
            let DirectRegistered { environment_id, transport, registration_id, url } =
                decode(contract, body)?;
            same_environment(&environment_id, asked)?;
            if transport != DIRECT_TRANSPORT {
                return Err(RemoteError::Protocol(format!(
                    "environment registry returned unsupported transport `{}`",
                    printable(&transport, 100)
                )));
            }
            if registration_id.is_empty() || url.is_blank() {
                return Err(RemoteError::Protocol(
                    "environment registry returned an empty registration id or URL".to_owned(),
                ));
            }
            Registration { id: environment_id, executor: None, url, registration_id: Some(registration_id) }
        }
    })
}

fn same_environment(told: &str, asked: Option<&str>) -> Result<(), RemoteError> {
    if Some(told) == asked {
        return Ok(());
    }
    Err(RemoteError::Protocol("environment registry returned a different environment id".to_owned()))
}

fn decode<T: DeserializeOwned>(contract: Contract, body: &[u8]) -> Result<T, RemoteError> {
    serde_json::from_slice(body).map_err(|error| {
        let hint = shape(body).filter(|shape| *shape != contract).map(|shape| {
            format!("the answer is that of another contract; try --remote-contract {}", shape.name())
        });
        let other_contract = hint.is_some();
        let (text, cause) = if matches!(contract, Contract::Noise | Contract::Direct) {
            let text = format!("failed to serialize or deserialize exec-server JSON: {error}");
            (text, hint.map(Cause::new))
        } else {
            let text = format!("{} request failed: error decoding response body", contract.service());
            let cause = hint.map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"));
            (text, Some(Cause::new(cause)))
        };
        RemoteError::Answer { text, other_contract, cause }
    })
}

/// The contract in whose shape a registry answered.
fn shape(body: &[u8]) -> Option<Contract> {
    let Value::Object(members) = serde_json::from_slice(body).ok()? else { return None };
    let has = |name: &str| members.get(name).is_some_and(Value::is_string);
    if !has("url") {
        return None;
    }
    if has("environment_id") && has("transport") {
        Some(Contract::Direct)
    } else if has("environment_id") && has("executor_registration_id") {
        Some(Contract::Noise)
    } else if has("environment_id") && has("id") {
        Some(Contract::Cloud)
    } else if has("environment_id") {
        Some(Contract::Environment)
    } else {
        has("executor_id").then_some(Contract::Executor)
    }
}

/// Makes an error of an answer that is no success. `secret` is never repeated from the body.
pub(crate) fn refusal(
    contract: Contract,
    status: StatusCode,
    body: &[u8],
    hide_body: bool,
    secret: &Secret,
) -> RemoteError {
    let unauthorized = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let Told { code, message } = Told::by(body);
    let code = code.map(|code| printable(&code, 100));
    let empty = if unauthorized { "empty error body" } else { "empty or malformed error body" };
    let mut message = message.map_or_else(|| empty.to_owned(), |text| printable(&text, SHOWN_CHARACTERS));
    if hide_body {
        message = "environment registry executor registration failed".to_owned();
    } else {
        message = secret.hidden_in(&message);
    }
    if unauthorized && contract != Contract::Cloud {
        return RemoteError::Unauthorized { contract, status, message };
    }
    let code = code.filter(|code| !hide_body && secret.hidden_in(code) == *code);
    RemoteError::Refused { contract, status, code, message }
}

/// At most so many characters, without those that would control a terminal.
fn printable(text: &str, most: usize) -> String {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().take(most).map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTRACTS: [Contract; 5] =
        [Contract::Cloud, Contract::Executor, Contract::Environment, Contract::Noise, Contract::Direct];

    proptest! {
        #[test]
        fn any_body_of_an_error_gives_a_bounded_text_that_no_terminal_obeys(
            body in prop_oneof![
                any::<Vec<u8>>(),
                ".{0,200}".prop_map(|message| {
                    serde_json::json!({"error": {"message": message, "code": message}}).to_string().into_bytes()
                }),
            ],
        ) {
            for contract in CONTRACTS {
                let text = refusal(contract, StatusCode::NOT_FOUND, &body, false, &Secret::default()).to_string();
                prop_assert!(text.chars().count() <= SHOWN_CHARACTERS + 300);
                prop_assert!(text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')), "{text:?}");
            }
        }

        #[test]
        fn any_body_of_a_success_is_a_registration_or_an_error(body in any::<Vec<u8>>()) {
            for contract in CONTRACTS {
                prop_assert!(registration(contract, Some("env-1"), &body).is_err());
            }
        }

        #[test]
        fn a_secret_is_never_repeated(before in ".{0,20}", after in ".{0,20}") {
            for wrapped in ["message", "code", "other"] {
                let secret = "s3cret-t0ken";
                let text = format!("{before}{secret}{after}");
                let body = serde_json::json!({"error": {wrapped: text}}).to_string();
                let error = refusal(Contract::Noise, StatusCode::BAD_REQUEST, body.as_bytes(), false, &Secret::from(secret));
                prop_assert!(!error.to_string().contains(secret), "{error}");
            }
        }
    }
}
