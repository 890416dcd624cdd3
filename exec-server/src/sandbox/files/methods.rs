//! Which methods a policy can be put on, and how each is done under it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::filesystem as files;
use codex_exec_protocol::sandbox::Sandbox;
use codex_exec_protocol::{Method, RpcError, WirePath, bytes};

use super::pool::FileHelpers;
use super::prepared::Prepared;
use super::words::{Opened, ToOpen, Work};
use crate::filesystem;
use crate::sandbox::place::locate;
use crate::sandbox::{Access, Files};

/// A method whose params have a sandbox.
pub trait ConfinedMethod: Method {
    /// The sandbox of a request, if it has to be enforced; it is taken out.
    fn take_sandbox(params: &mut Self::Params) -> Option<Sandbox>;

    /// Does it under a policy. Blocks.
    ///
    /// # Errors
    /// Those of the method (section 10), `-32600` when the policy can't be enforced.
    fn run_confined(
        helpers: &FileHelpers,
        prepared: &Prepared,
        params: Self::Params,
    ) -> Result<Self::Result, RpcError>;
}

impl FileHelpers {
    /// Does a request: under its sandbox if that has to be enforced, else as `plain` does it. Blocks.
    ///
    /// # Errors
    /// Those of the method (section 10), `-32600` when the sandbox can't be enforced.
    pub fn run<M: ConfinedMethod>(
        &self,
        mut params: M::Params,
        plain: impl FnOnce(M::Params) -> Result<M::Result, RpcError>,
    ) -> Result<M::Result, RpcError> {
        match M::take_sandbox(&mut params) {
            None => plain(params),
            Some(sandbox) => M::run_confined(self, &*self.prepare(&sandbox)?, params),
        }
    }

    /// Opens a file for a handle under a sandbox; none if there is nothing to enforce. Blocks.
    ///
    /// # Errors
    /// Those of `fs/open` (10.10), `-32600` when the sandbox can't be enforced.
    pub fn open(&self, params: &files::OpenParams) -> Result<Option<OwnedFd>, RpcError> {
        let Some(sandbox) = params.sandbox.as_ref().filter(|sandbox| sandbox.needs_enforcement_for_files())
        else {
            return Ok(None);
        };
        let work = match params.mode {
            files::OpenMode::Read => Work::OpenToRead,
            files::OpenMode::Replace => Work::OpenToReplace,
        };
        let prepared = self.prepare(sandbox)?;
        Ok(Some(self.open_file(&prepared, work, &params.path, true)?.0))
    }

    /// Opens a file to be read whole under a sandbox, with its size; none if there is nothing to enforce. Blocks.
    ///
    /// # Errors
    /// Those of `fs/readFile` (10.1), `-32600` when the sandbox can't be enforced.
    pub fn open_whole(&self, params: &files::ReadFileParams) -> Result<Option<(OwnedFd, u64)>, RpcError> {
        let Some(sandbox) = params.sandbox.as_ref().filter(|sandbox| sandbox.needs_enforcement_for_files())
        else {
            return Ok(None);
        };
        let follow = params.follow_symlinks.unwrap_or(true);
        self.open_file(&*self.prepare(sandbox)?, Work::OpenToRead, &params.path, follow).map(Some)
    }

    fn open_file(
        &self,
        prepared: &Prepared,
        work: Work,
        path: &WirePath,
        follow: bool,
    ) -> Result<(OwnedFd, u64), RpcError> {
        refuse_denied(prepared, path, Name::Followed)?;
        let (Opened { size }, file) = self.ask(prepared, work, &ToOpen { path: path.clone(), follow })?;
        let file = file.ok_or_else(|| RpcError::internal("the helper opened no file; try again"))?;
        Ok((file, size))
    }
}

/// What the last name of a path means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// What it leads to.
    Followed,
    /// Itself.
    Itself,
}

/// Gives a denied path the answer of 0.169 (14.2). The helper would find nothing there, which is another code; this look
/// beforehand only ever refuses.
fn refuse_denied(prepared: &Prepared, path: &WirePath, name: Name) -> Result<(), RpcError> {
    let path = path.local()?;
    let Files::Rules(rules) = &prepared.policy.files else { return Ok(()) };
    if !rules.denies() {
        return Ok(());
    }
    let real = match (name, path.parent(), path.file_name()) {
        (Name::Itself, Some(parent), Some(last)) => real(parent).map(|parent| parent.join(last)),
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

/// Implements the trait for methods that the helper does as a whole.
macro_rules! by_the_helper {
    ($($method:ident($params:ident: $($path:ident = $name:ident),+);)*) => {
        $(impl ConfinedMethod for files::$method {
            fn take_sandbox(params: &mut Self::Params) -> Option<Sandbox> {
                params.sandbox.take().filter(Sandbox::needs_enforcement_for_files)
            }
            fn run_confined(
                helpers: &FileHelpers,
                prepared: &Prepared,
                $params: Self::Params,
            ) -> Result<Self::Result, RpcError> {
                $(refuse_denied(prepared, &$params.$path, Name::$name)?;)+
                helpers.ask(prepared, Work::$method, &$params).map(|(result, _)| result)
            }
        })*
    };
}

by_the_helper! {
    GetMetadata(params: path = Followed);
    CreateDirectory(params: path = Followed);
    Canonicalize(params: path = Followed);
    ReadDirectory(params: path = Followed);
    Walk(params: path = Followed);
    Remove(params: path = Itself);
    Copy(params: source_path = Itself, destination_path = Followed);
}

impl ConfinedMethod for files::WriteFile {
    fn take_sandbox(params: &mut Self::Params) -> Option<Sandbox> {
        params.sandbox.take().filter(Sandbox::needs_enforcement_for_files)
    }

    fn run_confined(
        helpers: &FileHelpers,
        prepared: &Prepared,
        params: Self::Params,
    ) -> Result<Self::Result, RpcError> {
        let data = bytes::decode(&params.data_base64).map_err(|error| {
            RpcError::invalid_request(format!("fs/writeFile requires valid base64 dataBase64: {error}"))
        })?;
        let follow = params.follow_symlinks.unwrap_or(true);
        let (file, _) = helpers.open_file(prepared, Work::OpenToReplace, &params.path, follow)?;
        File::from(file).write_all(&data).map_err(filesystem::rpc_error)?;
        Ok(Empty {})
    }
}
