//! Who writes to a program of those that may: the newest, at whose pace its output comes.

use std::sync::Arc;

use codex_exec_protocol::process::{AttachParams, AttachmentEnd};
use codex_exec_protocol::{RpcError, Seq};

use super::process::Process;

/// Longest id of an attachment, in bytes: a UUID has 36. A safeguard, far from any real use.
const LONGEST_ID: usize = 128;

/// Whether `process/attach` makes sense.
///
/// # Errors
/// `-32602`.
pub(crate) fn check_attachment(params: &AttachParams) -> Result<(), RpcError> {
    match params.attachment_id.len() {
        1..=LONGEST_ID => Ok(()),
        _ => Err(RpcError::invalid_params(format!("attachmentId takes 1 to {LONGEST_ID} bytes"))),
    }
}

/// Somebody who writes to a program, until another does. Dropping it lets go.
pub(crate) struct Attachment {
    process: Arc<Process>,
    id: Arc<String>,
}

impl Attachment {
    /// Takes over. What came after `after` is kept until it was read.
    pub(crate) fn begin(process: Arc<Process>, id: String, after: Seq) -> Self {
        let id = Arc::new(id);
        process.take_over(Arc::clone(&id), after);
        Self { process, id }
    }

    /// Waits until another took over, or the program is over and all of its output seen.
    pub(crate) async fn ended(&self) -> AttachmentEnd {
        self.process.attachment_ended(&self.id).await
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.process.let_go(&self.id);
    }
}
