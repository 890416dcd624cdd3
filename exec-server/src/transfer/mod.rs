//! Copies files and trees from one machine to another, over what [`Files`] of each can do.
//!
//! A file is written under another name beside its place, `.NAME.codex-part`, and gets its mode, its time and its name at
//! once when its content is whole and has the hash of the original. What a broken copy has left there is taken up again by
//! the next one. Nothing is held but the blocks that are on their way, and the names of the directories of one level.

mod file;
mod stream;
mod tree;

pub use stream::{Found, StreamError, fetch, store};

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::environment::{CallError, Files};
use crate::protocol::filesystem::{Entry, GetEntryParams, Kind, LinkParams};
use crate::protocol::{ErrorCode, WirePath};

/// Failures that are told one by one; more are counted. A safeguard, far from any real use.
const MOST_TOLD: usize = 1000;

/// How far a copy is. Read it whenever you like.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of content that have arrived, or were there already.
    pub bytes: AtomicU64,
    /// Bytes that are known to be wanted so far.
    pub expected: AtomicU64,
    /// Files and links that are whole.
    pub files: AtomicU64,
}

/// What could not be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The original.
    pub path: PathBuf,
    /// Why, as a sentence.
    pub reason: String,
}

/// What became of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files and links that were copied.
    pub copied: u64,
    /// Files and links that were there already, with the same size, time and mode.
    pub same: u64,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that an earlier copy had left, and that were found to be right.
    pub resumed: u64,
    /// The first of what could not be copied.
    pub failures: Vec<Failure>,
    /// How much could not be copied.
    pub failed: u64,
}

/// How names are understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Naming {
    /// The source itself may be a link to what is meant; links within a tree are copied as links all the same.
    pub follow: bool,
    /// The destination is the copy's own name, also where a directory has it.
    pub exact: bool,
}

/// A copy under way.
struct Transfer {
    from: Arc<dyn Files>,
    to: Arc<dyn Files>,
    progress: Arc<Progress>,
    report: Mutex<Report>,
}

/// Copies a file, a link or a tree: `source` becomes `destination`, or stands in it where that is a directory. Of a source
/// that ends in `/.` the content is meant.
///
/// # Errors
/// What keeps the whole from being begun: no such source, a destination that can't be looked at, or a machine without the
/// methods for it. What fails later stands in the report.
pub async fn copy(
    from: Arc<dyn Files>,
    to: Arc<dyn Files>,
    source: &Path,
    destination: &Path,
    naming: Naming,
    progress: Arc<Progress>,
) -> Result<Report, CallError> {
    let transfer = Transfer { from, to, progress, report: Mutex::default() };
    let entry = transfer.from.stat(stat_params(source, naming.follow)).await.map_err(explained)?;
    let (destination, there) = transfer.destination(source, destination, naming.exact).await?;
    match entry.kind {
        Kind::Directory => transfer.tree(entry, destination).await,
        _ => transfer.one(&entry, &destination, there.as_ref()).await,
    }
    Ok(transfer.report.into_inner())
}

/// A server without the methods says so in a sentence of its own that helps nobody.
pub fn explained(error: CallError) -> CallError {
    match error {
        CallError::Rpc(mut refusal) if refusal.code == ErrorCode::METHOD_NOT_FOUND => {
            refusal.message = format!(
                "this exec-server can't copy files: it is a released or an older one ({})",
                refusal.message
            );
            CallError::Rpc(refusal)
        }
        other => other,
    }
}

fn stat_params(path: &Path, follow_symlinks: bool) -> GetEntryParams {
    GetEntryParams { path: path.to_owned().into(), follow_symlinks, extents: false, sandbox: None }
}

fn is_missing(error: &CallError) -> bool {
    matches!(error, CallError::Rpc(error) if error.code == ErrorCode::NOT_FOUND)
}

impl Transfer {
    /// Where the copy goes, and what stands there.
    async fn destination(
        &self,
        source: &Path,
        wanted: &Path,
        exact: bool,
    ) -> Result<(PathBuf, Option<Entry>), CallError> {
        if exact || source.as_os_str().as_bytes().ends_with(b"/.") {
            return self.there(wanted.to_owned()).await;
        }
        let into = match self.to.stat(stat_params(wanted, true)).await {
            Ok(entry) if entry.kind == Kind::Directory => source.file_name().map(|name| wanted.join(name)),
            Ok(entry) => return Ok((wanted.to_owned(), Some(entry))),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(explained(error)),
        };
        let Some(into) = into else { return Ok((wanted.to_owned(), None)) };
        self.there(into).await
    }

    /// A path, and what has it.
    async fn there(&self, path: PathBuf) -> Result<(PathBuf, Option<Entry>), CallError> {
        match self.to.stat(stat_params(&path, false)).await {
            Ok(entry) => Ok((path, Some(entry))),
            Err(error) if is_missing(&error) => Ok((path, None)),
            Err(error) => Err(explained(error)),
        }
    }

    /// Copies a file or a link; `there` is what has its name now.
    async fn one(&self, entry: &Entry, destination: &Path, there: Option<&Entry>) {
        self.progress.expected.fetch_add(entry.size, Ordering::Relaxed);
        if there.is_some_and(|there| is_same(entry, there)) {
            self.report.lock().same += 1;
            self.progress.bytes.fetch_add(entry.size, Ordering::Relaxed);
            self.progress.files.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let done = match entry.kind {
            Kind::File => self.file(entry, destination).await,
            Kind::Symlink => self.link(entry, destination).await,
            Kind::Directory => Err("it became a directory meanwhile".to_owned()),
            Kind::Other => Err("it is a socket, FIFO or device, which are not copied".to_owned()),
        };
        match done {
            Ok(()) => {
                self.report.lock().copied += 1;
                self.progress.files.fetch_add(1, Ordering::Relaxed);
            }
            Err(reason) => self.failed(&entry.path, reason),
        }
    }

    async fn link(&self, entry: &Entry, destination: &Path) -> Result<(), String> {
        let params = LinkParams {
            path: destination.to_owned().into(),
            target: entry.target.clone().unwrap_or_default(),
            modified_at_ns: Some(entry.modified_at_ns),
            sandbox: None,
        };
        self.to.link(params).await.map_err(|error| error.to_string())?;
        Ok(())
    }

    fn failed(&self, path: &WirePath, reason: String) {
        let mut report = self.report.lock();
        report.failed += 1;
        if report.failures.len() < MOST_TOLD {
            let path = path.local().map(Path::to_owned).unwrap_or_default();
            report.failures.push(Failure { path, reason });
        }
    }
}

/// Whether a copy of the entry stands there, as far as all that is kept tells.
fn is_same(entry: &Entry, there: &Entry) -> bool {
    let kept = |entry: &Entry| (entry.kind, entry.size, entry.modified_at_ns, entry.target.clone());
    let modes_differ = entry.kind == Kind::File && entry.mode != there.mode;
    matches!(entry.kind, Kind::File | Kind::Symlink) && kept(entry) == kept(there) && !modes_differ
}
