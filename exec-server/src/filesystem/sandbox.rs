//! Refuses file operations whose sandbox could not be enforced.

use crate::protocol::RpcError;
use crate::protocol::sandbox::Sandbox;

/// Lets an operation pass whose sandbox asks for nothing that would have to be enforced.
///
/// # Errors
/// `-32600` for a sandbox that restricts files: running without its limits would break a promise.
pub fn refuse_unenforced(sandbox: &Option<Sandbox>) -> Result<(), RpcError> {
    match sandbox {
        Some(sandbox) if sandbox.needs_enforcement_for_files() => Err(RpcError::invalid_request(
            "this server cannot enforce a sandbox that restricts files; \
             leave `sandbox` out, or use permissions of type `disabled` or `external`",
        )),
        _ => Ok(()),
    }
}
