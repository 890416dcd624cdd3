//! `fs/canonicalize` (10.5).

use super::error::rpc_error;
use super::path::local;
use super::sandbox::refuse_unenforced;
use crate::protocol::RpcError;
use crate::protocol::filesystem::{CanonicalizeParams, CanonicalizeResult};

/// The real path of something that exists.
///
/// # Errors
/// The system's, `-32004` for what does not exist.
pub fn canonicalize(params: &CanonicalizeParams) -> Result<CanonicalizeResult, RpcError> {
    refuse_unenforced(&params.sandbox)?;
    let real = std::fs::canonicalize(local(&params.path)?).map_err(rpc_error)?;
    Ok(CanonicalizeResult { path: real.into() })
}
