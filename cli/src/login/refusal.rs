//! How a login command ends without doing its work.

use crate::output;

pub(super) const CHATGPT_DISABLED: &str = "ChatGPT login is disabled. Use API key login instead.";
pub(super) const API_KEY_DISABLED: &str = "API key login is disabled. Use ChatGPT login instead.";

/// Why a login command ends without doing its work: the lines to print. The exit code is 1.
pub(crate) struct Refusal(pub(super) Vec<String>);

impl Refusal {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

/// Prints how a login command ended and gives its exit code.
pub(crate) fn finish(outcome: Result<u8, Refusal>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(Refusal(lines)) => {
            lines.iter().for_each(|line| output::note(line));
            1
        }
    }
}
