//! `fs/canonicalize` (10.5).

use super::error::rpc_error;
use super::path::local;
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::protocol::RpcError;
use crate::protocol::filesystem::{Canonicalize, CanonicalizeParams, CanonicalizeResult};

/// The real path of something that exists. Errors: the system's, `-32004` for what does not exist.
impl PathMethod for Canonicalize {
    fn run(params: &CanonicalizeParams, _: &Limits) -> Result<CanonicalizeResult, RpcError> {
        let real = std::fs::canonicalize(local(&params.path)?).map_err(rpc_error)?;
        Ok(CanonicalizeResult { path: real.into() })
    }

    fn paths(params: &CanonicalizeParams) -> Vec<PathUse<'_>> {
        vec![How::Reads.of(&params.path)]
    }
}
