//! How methods are done under a sandbox.

use std::path::{Path, PathBuf};

use codex_exec_protocol::filesystem::{Open, Sandboxed};
use codex_exec_protocol::sandbox::Sandbox;
use codex_exec_protocol::{Method, RpcError, WirePath};

use super::messages::Operation;
use super::pool::FileHelpers;
use super::prepared::Prepared;
use crate::Limits;
use crate::filesystem::{self, Opened, PathMethod, ToOpen};
use crate::sandbox::lookups::locate;
use crate::sandbox::{Access, Files};

impl FileHelpers {
    /// Does a request, under its sandbox if that has to be enforced. Blocks.
    ///
    /// # Errors
    /// Those of the method (section 10), `-32600` when the sandbox can't be enforced.
    pub(crate) fn run<M: PathMethod>(
        &self,
        mut params: M::Params,
        limits: &Limits,
    ) -> Result<M::Result, RpcError> {
        let sandbox = params.take_sandbox().filter(Sandbox::needs_enforcement_for_files);
        let Some(sandbox) = sandbox else { return M::run(&params, limits) };
        let prepared = self.prepare(&sandbox)?;
        let paths = M::paths(&params);
        for used in &paths {
            refuse_denied(&prepared, used.path, used.followed)?;
        }
        let changes = paths.iter().any(|used| used.how.changes());
        let work = Operation { method: M::NAME, creates: M::CREATES, changes };
        let used: Vec<&Path> = paths.iter().filter_map(|used| used.path.local().ok()).collect();
        self.ask(&prepared, work, &used, &params).map(|(result, _)| result)
    }

    /// Opens a file, under its request's sandbox if that has to be enforced. Blocks.
    ///
    /// # Errors
    /// Those of [`ToOpen::open`], `-32600` when the sandbox can't be enforced.
    pub(crate) fn open<P: Sandboxed>(&self, params: &P) -> Result<Opened, RpcError>
    where
        for<'p> ToOpen: From<&'p P>,
    {
        let to_open = ToOpen::from(params);
        let Some(sandbox) = params.sandbox().filter(|sandbox| sandbox.needs_enforcement_for_files()) else {
            return to_open.open();
        };
        let prepared = self.prepare(sandbox)?;
        refuse_denied(&prepared, &to_open.path, true)?;
        let creates = to_open.creates();
        let work = Operation { method: Open::NAME, creates, changes: creates };
        let (size, file) = self.ask(&prepared, work, &[], &to_open)?;
        let file = file.ok_or_else(|| RpcError::internal("the helper opened no file; try again"))?;
        Ok((file, size))
    }
}

/// Gives a denied path the answer of 0.169 (14.2). The helper would find nothing there, which is another code; this look
/// beforehand only ever refuses.
fn refuse_denied(prepared: &Prepared, path: &WirePath, followed: bool) -> Result<(), RpcError> {
    let path = path.local()?;
    let Files::Rules(rules) = &prepared.policy.files else { return Ok(()) };
    if !rules.denies() {
        return Ok(());
    }
    let real = match (followed, path.parent(), path.file_name()) {
        (false, Some(parent), Some(last)) => real(parent).map(|parent| parent.join(last)),
        _ => real(path),
    };
    match real {
        Some(real) if rules.access_at(&real) == Access::Denied => {
            Err(filesystem::rpc_error(rustix::io::Errno::ACCESS))
        }
        _ => Ok(()),
    }
}

fn real(path: &Path) -> Option<PathBuf> {
    locate(path).ok().map(|place| place.real)
}
