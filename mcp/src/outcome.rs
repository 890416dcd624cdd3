//! What a tool answers: text for a model and data for a program, or a sentence that says why not.

use codex_exec_server::environment::CallError;
use codex_exec_server::interactive::InteractiveError;
use rmcp::model::{CallToolResult, ContentBlock, Task};
use serde_json::Value;

/// The result of a call that worked.
pub(crate) struct Outcome {
    /// For a model.
    pub(crate) text: String,
    /// The same for a program.
    pub(crate) data: Value,
}

/// How a call is answered.
pub(crate) enum Reply {
    /// It is done.
    Done(Outcome),
    /// It goes on, and its client asks for the result.
    Begun(Task),
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self::Done(outcome)
    }
}

/// Why a call did not do what it was asked for, as a sentence for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

impl Refused {
    pub(crate) fn because(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl From<CallError> for Refused {
    fn from(error: CallError) -> Self {
        Self(error.to_string())
    }
}

impl From<InteractiveError> for Refused {
    fn from(error: InteractiveError) -> Self {
        Self(error.to_string())
    }
}

/// As the protocol has it: refusals are results too, since only results are shown to the model.
pub(crate) fn result(outcome: Result<Outcome, Refused>) -> CallToolResult {
    match outcome {
        Ok(Outcome { text, data }) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
            result.structured_content = Some(data);
            result
        }
        Err(Refused(sentence)) => CallToolResult::error(vec![ContentBlock::text(sentence)]),
    }
}
