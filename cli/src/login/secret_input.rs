//! Reads a secret that is piped to standard input.

use std::io::{IsTerminal, Read, stdin};

use codex_login::Secret;
use zeroize::Zeroizing;

use super::refusal::Refusal;
use crate::output;

/// The longest secret that is read, in bytes. A safeguard, far from any real use.
const SECRET_BYTES: u64 = 1 << 20;

/// What is read, and how to do it right.
pub(super) struct SecretInput {
    pub(super) what: &'static str,
    pub(super) flag: &'static str,
    /// The variable of the example.
    pub(super) variable: &'static str,
}

/// Reads all of standard input, without white space around it.
pub(super) fn read(input: &SecretInput) -> Result<Secret, Refusal> {
    let SecretInput { what, flag, variable } = input;
    if stdin().is_terminal() {
        return Err(Refusal::new(format!(
            "{flag} expects the {what} on standard input. Pipe it, e.g. `printenv {variable} | codex login {flag}`."
        )));
    }
    output::note(&format!("Reading {what} from stdin..."));
    // With all its room from the start, no copy of the secret is left behind by a growing buffer.
    let room = usize::try_from(SECRET_BYTES).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let outcome = stdin().lock().take(SECRET_BYTES + 1).read_to_string(&mut text);
    if let Err(error) = outcome {
        return Err(Refusal::new(format!("Failed to read the {what} from stdin: {error}")));
    }
    if text.len() as u64 > SECRET_BYTES {
        return Err(Refusal::new(format!("The {what} on stdin has more than {SECRET_BYTES} bytes.")));
    }
    // Some editors and shells put a byte-order mark before all that they write.
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(Refusal::new(format!("No {what} provided via stdin."))),
        // No HTTP header could carry it.
        secret if secret.contains(char::is_control) => Err(Refusal::new(format!(
            "The {what} on stdin has a line break or another control character inside; pipe the {what} alone."
        ))),
        secret => Ok(secret.into()),
    }
}
