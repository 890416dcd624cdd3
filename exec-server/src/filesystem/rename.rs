//! `fs/rename`, of Kimi Code's dialect alone: released servers of ours refuse that name (`docs/extensions.md`).

use rustix::fs::renameat;

use super::error::rpc_error;
use super::path::{local, open_parent};
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::protocol::kimi::{Rename, RenameParams};
use crate::protocol::{RpcError, encode::Empty};

/// Errors: the system's, also for a new name in another file system.
impl PathMethod for Rename {
    const CREATES: bool = true;

    fn run(params: &RenameParams, _: &Limits) -> Result<Empty, RpcError> {
        let (parent, name) = open_parent(local(&params.from)?, true).map_err(rpc_error)?;
        let (to, new) = open_parent(local(&params.to)?, true).map_err(rpc_error)?;
        renameat(&parent, name, &to, new).map_err(rpc_error)?;
        Ok(Empty {})
    }

    fn paths(params: &RenameParams) -> Vec<PathUse<'_>> {
        vec![How::Changes.of_name(&params.from), How::Changes.of_name(&params.to)]
    }
}
