//! Which files a tool may touch: paths, the roots that confine them, the sandbox that holds them.

use std::path::{Component, Path, PathBuf};

use codex_exec_protocol::filesystem::{CanonicalizeParams, Metadata};
use codex_exec_protocol::path::{LocalPath, WirePath};
use codex_exec_protocol::sandbox::{Permissions, Sandbox};
use codex_exec_protocol::{ErrorCode, RpcError, filesystem};
use codex_exec_server::environment::CallError;

use crate::environments::Connected;
use crate::outcome::Refused;

/// What confines the tools on every environment.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// Directories that the file tools stay in, and that programs begin in; none for everything. The first is where relative
    /// paths begin. Absolute.
    pub roots: Vec<PathBuf>,
    /// Where relative paths begin without roots; without it, where the environment's server works.
    pub cwd: Option<PathBuf>,
    /// What programs and file operations may touch; the kernel of the environment's machine enforces it.
    pub permissions: Option<Permissions>,
}

/// A file or directory that a tool may touch.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its path. Under roots it is a real path, without symlinks.
    pub(crate) path: PathBuf,
    /// Under roots no symlink may have come to be in it since.
    pub(crate) follow_symlinks: Option<bool>,
    pub(crate) sandbox: Option<Sandbox>,
}

impl Place {
    pub(crate) fn wire(&self) -> WirePath {
        WirePath::Local(self.path.clone())
    }

    /// Kind and size of what is there.
    pub(crate) async fn metadata(&self, there: &Connected) -> Result<Metadata, CallError> {
        let params = filesystem::GetMetadataParams {
            path: self.wire(),
            follow_symlinks: self.follow_symlinks,
            sandbox: self.sandbox.clone(),
        };
        there.environment().files.get_metadata(params).await
    }
}

impl Confinement {
    /// Where relative paths begin on an environment.
    pub(crate) fn base(&self, there: &Connected) -> Result<PathBuf, Refused> {
        if let Some(base) = self.roots.first().or(self.cwd.as_ref()) {
            return Ok(base.clone());
        }
        match there.info.as_ref().and_then(|info| info.cwd.as_ref()) {
            Some(WirePath::Local(cwd)) => Ok(cwd.clone()),
            _ => Err(Refused(format!(
                "the environment {:?} does not say where it works; give absolute paths, and cwd for programs",
                there.name
            ))),
        }
    }

    /// The sandbox for an environment, if one was asked for. Its workspace is no tool's to choose.
    pub(crate) fn sandbox(&self, there: &Connected) -> Result<Option<Sandbox>, Refused> {
        let Some(permissions) = &self.permissions else { return Ok(None) };
        let base = self.base(there)?;
        let mut sandbox = Sandbox::new(permissions.clone(), LocalPath(base));
        if !self.roots.is_empty() {
            sandbox.workspace_roots = Some(self.roots.iter().cloned().map(LocalPath).collect());
        }
        Ok(Some(sandbox))
    }

    /// A path of an argument, as a place that may be touched. What is not there may be named where `may_be_new`.
    pub(crate) async fn place(
        &self,
        there: &Connected,
        text: &str,
        may_be_new: bool,
    ) -> Result<Place, Refused> {
        let path = self.absolute(there, text)?;
        let sandbox = self.sandbox(there)?;
        if self.roots.is_empty() {
            return Ok(Place { path, follow_symlinks: None, sandbox });
        }
        let real = self.real(there, &path, may_be_new).await?;
        let mut within = false;
        for root in &self.roots {
            // A root that is not there holds nothing.
            within |= canonical(there, root).await.is_ok_and(|root| real.starts_with(root));
        }
        if !within {
            let roots: Vec<_> = self.roots.iter().map(|root| root.display().to_string()).collect();
            return Err(Refused(format!(
                "{text:?} leads out of what may be touched here; that is {}",
                roots.join(", ")
            )));
        }
        Ok(Place { path: real, follow_symlinks: Some(false), sandbox })
    }

    fn absolute(&self, there: &Connected, text: &str) -> Result<PathBuf, Refused> {
        if text.is_empty() || text.contains('\0') {
            return Err(Refused::because("a path must not be empty and must not hold a NUL"));
        }
        if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
            return match WirePath::parse(text) {
                Ok(WirePath::Local(path)) => Ok(path),
                Ok(WirePath::Foreign(_)) => Err(Refused(format!("{text:?} belongs to another machine"))),
                Err(error) => Err(Refused(error.to_string())),
            };
        }
        let home = there.info.as_ref().and_then(|info| info.user_home_dir.as_ref());
        match (text.strip_prefix("~/").or((text == "~").then_some("")), home) {
            (Some(rest), Some(WirePath::Local(home))) => Ok(home.join(rest)),
            _ if text.starts_with('/') => Ok(PathBuf::from(text)),
            _ => Ok(self.base(there)?.join(text)),
        }
    }

    /// The path without symlinks and `..`. What is not there hangs on the nearest parent that is.
    async fn real(&self, there: &Connected, path: &Path, may_be_new: bool) -> Result<PathBuf, Refused> {
        let mut missing = Vec::new();
        let mut known = path;
        loop {
            match canonical(there, known).await {
                Ok(real) => return Ok(missing.iter().rev().fold(real, |path, name| path.join(name))),
                Err(error) if may_be_new && is_missing(&error) => {
                    // Behind a name that is not there, `..` means nothing.
                    let (Some(Component::Normal(name)), Some(parent)) =
                        (known.components().next_back(), known.parent())
                    else {
                        return Err(error.into());
                    };
                    missing.push(name.to_owned());
                    known = parent;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_missing(error: &CallError) -> bool {
    matches!(error, CallError::Rpc(RpcError { code: ErrorCode::NOT_FOUND, .. }))
}

async fn canonical(there: &Connected, path: &Path) -> Result<PathBuf, CallError> {
    let params = CanonicalizeParams { path: WirePath::Local(path.to_owned()), sandbox: None };
    match there.environment().files.canonicalize(params).await?.path {
        WirePath::Local(path) => Ok(path),
        WirePath::Foreign(text) => {
            Err(CallError::Lost(format!("the environment answers with the path {text:?}")))
        }
    }
}
