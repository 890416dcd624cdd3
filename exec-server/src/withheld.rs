//! Which variables of its own environment a server keeps to itself, and which no program gets from anybody.

use std::ffi::{OsStr, OsString};

/// Credentials of this program and of its sign-in: neither programs nor headers of HTTP requests get them.
const SECRETS: [&str; 12] = [
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_REFRESH_TOKEN",
    "CODEX_CONNECTORS_TOKEN",
    "CODEX_GUARDIAN_DECISIONS_API_KEY",
    "CODEX_EXEC_SERVER_TOKEN",
    "CODEX_EXEC_SERVER_MCP_TOKEN",
    "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN",
    // A workload's identity.
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_WORKLOAD_IDENTITY_CONTEXT",
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
];
/// A whole family of them.
const SECRET_PREFIX: &str = "CODEX_EXEC_SERVER_NOISE_";
/// Not inherited, though headers may have them: more about a workload's identity, and how one server was started.
const WITHHELD: [&str; 7] = [
    "OPENAI_IDENTITY_TOKEN_SOURCE",
    "OPENAI_SPIFFE_ID",
    "OPENAI_SPIFFE_AUDIENCE",
    "CODEX_INTERNAL_APP_SERVER_REMOTE_CONTROL_DISABLED",
    // The socket that was handed to the server, and to nobody else.
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];
/// Names that no program gets, whoever sets them (21.5): a workload's identity, and what only `metadata` may say.
const FORBIDDEN: [&str; 9] = [
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
    "CODEX_GUARDIAN_DECISIONS_API_KEY",
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_WORKLOAD_IDENTITY_CONTEXT",
    "OPENAI_IDENTITY_TOKEN_SOURCE",
    "OPENAI_SPIFFE_ID",
    "OPENAI_SPIFFE_AUDIENCE",
    "CODEX_TOOL_CALL_ID",
];

/// Whether a variable is a credential of this program or its sign-in, whatever the case of its letters.
pub(crate) fn is_secret(name: &OsStr) -> bool {
    let starts = |name: &str| {
        let head = name.get(..SECRET_PREFIX.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(SECRET_PREFIX))
    };
    is_one_of(&SECRETS, name) || name.to_str().is_some_and(starts)
}

/// What a program inherits of this one's variables: all but its credentials, and what says who it is signed in as. Every
/// way to start a program takes this.
pub fn inherited(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    variables.into_iter().filter(|(name, _)| !is_secret(name) && !is_one_of(&WITHHELD, name))
}

/// Whether no program gets a variable of this name, not even from its client.
pub(crate) fn is_forbidden(name: &OsStr) -> bool {
    is_one_of(&FORBIDDEN, name)
}

fn is_one_of(names: &[&str], name: &OsStr) -> bool {
    names.iter().any(|one| name.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_and_everything_else_goes_on() {
        let names =
            ["PATH", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "CODEX_HOME", "CODEX_EXEC_SERVER_URL"];
        let more = ["codex_api_key", "CODEX_EXEC_SERVER_NOISE_ANYTHING"];
        let all = names.into_iter().chain(SECRETS).chain(WITHHELD).chain(more);
        let got: Vec<OsString> =
            inherited(all.map(|name| (name.into(), "x".into()))).map(|(name, _)| name).collect();
        assert_eq!(got, names);
    }
}
