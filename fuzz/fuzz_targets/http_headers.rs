//! Headers of `http/request` (protocol.md 11.1): no credential of the server leaves in one, and no error shows a value.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_protocol::http::RequestHeader;
use codex_exec_server::http::headers_to_send;
use codex_fuzz::target;

const VALUE: &str = "value-of-the-variable";

target!(|headers: Vec<(&str, &str, Option<&str>)>| {
    let headers: Vec<RequestHeader> = headers
        .into_iter()
        .map(|(name, value, variable)| RequestHeader {
            name: name.to_owned(),
            value: value.to_owned(),
            value_env_var: variable.map(str::to_owned),
        })
        .collect();
    let refused = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["CODEX_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"].contains(&name.as_str())
            || name.starts_with("CODEX_EXEC_SERVER_NOISE_")
    };
    match headers_to_send(&headers, &|name| (!name.is_empty()).then(|| VALUE.into())) {
        Ok(sent) => {
            assert_eq!(sent.len(), headers.len(), "order and repeats are kept");
            assert!(!headers.iter().filter_map(|header| header.value_env_var.as_deref()).any(refused));
            for value in sent.values() {
                assert!(!value.as_bytes().contains(&b'\n') && !value.as_bytes().contains(&b'\r'));
            }
        }
        Err(error) => assert!(error.code.0 == -32602 && !error.message.contains(VALUE)),
    }
});
