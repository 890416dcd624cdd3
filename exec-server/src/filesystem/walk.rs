//! `fs/walk` (10.7): a tree, breadth first, within bounds.

use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::ffi::CStr;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::directory::for_each_name;
use super::error::rpc_error;
use super::path::local;
use super::tree::{Identity, identity};
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::budget::answer_bytes;
use crate::protocol::filesystem::{
    Walk, WalkEntry, WalkError, WalkKind, WalkOptions, WalkParams, WalkResult,
};
use crate::protocol::{RpcError, WirePath};

/// What an entry counts beside its URI. Chosen for speed.
const ENTRY_BYTES: usize = 64;

/// Lists the files and directories below a root; a root that is no directory, or a symlink that is not to be
/// followed, has none.
///
/// Errors: `-32600` for bounds of zero or above the limits; the system's for the root.
impl PathMethod for Walk {
    fn run(params: &WalkParams, limits: &Limits) -> Result<WalkResult, RpcError> {
        let path = local(&params.path)?;
        check(&params.options, limits)?;
        let mut walk = Descent {
            options: params.options,
            result: WalkResult { entries: Vec::new(), errors: Vec::new(), truncated: false },
            bytes_left: limits.files.walk_result_bytes,
            queue: VecDeque::new(),
            entered: HashSet::new(),
        };
        match walk.open(path) {
            Ok(root) => walk.run(root, path)?,
            // A symlink that leads nowhere is no empty directory.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                statat(CWD, path, AtFlags::empty()).map_err(rpc_error)?;
            }
            Err(error) => return Err(rpc_error(error)),
        }
        Ok(walk.result)
    }

    fn paths(params: &WalkParams) -> Vec<PathUse<'_>> {
        vec![How::Sees.of(&params.path)]
    }

    fn answer_bytes(limits: &Limits) -> u64 {
        answer_bytes(limits.files.walk_result_bytes as u64)
    }
}

fn check(options: &WalkOptions, limits: &Limits) -> Result<(), RpcError> {
    if options.max_directories == 0 || options.max_entries == 0 {
        return Err(RpcError::invalid_request("filesystem walk limits must be greater than zero"));
    }
    if options.max_depth > limits.files.walk_depth
        || options.max_directories > limits.files.walk_directories
        || options.max_entries > limits.files.walk_entries
    {
        return Err(RpcError::invalid_request(format!(
            "filesystem walk limits exceed maximums: depth={}, directories={}, entries={}",
            limits.files.walk_depth, limits.files.walk_directories, limits.files.walk_entries
        )));
    }
    Ok(())
}

/// A walk under way.
struct Descent {
    options: WalkOptions,
    result: WalkResult,
    bytes_left: usize,
    /// Directories to enter, with the depth of what they hold.
    queue: VecDeque<(PathBuf, u64)>,
    entered: HashSet<Identity>,
}

/// A name worth telling, ordered by its bytes.
type Found = (Box<[u8]>, Outcome);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    File,
    Directory,
    Failed(String),
}

impl Descent {
    fn run(&mut self, root: OwnedFd, path: &Path) -> Result<(), RpcError> {
        self.entered.insert(identity(&fstat(&root).map_err(rpc_error)?));
        // The root's own failure is the answer's; those below are listed.
        let found = self.list(&root)?;
        self.take(path, 0, found);
        while !self.result.truncated
            && let Some((path, depth)) = self.queue.pop_front()
        {
            let directory = match self.open(&path) {
                Ok(directory) => directory,
                Err(error) => {
                    self.add_error(&path, rpc_error(error).message);
                    continue;
                }
            };
            match fstat(&directory) {
                Ok(facts) if self.entered.contains(&identity(&facts)) => continue,
                Ok(_) if self.entered.len() as u64 >= self.options.max_directories => {
                    self.result.truncated = true;
                    break;
                }
                Ok(facts) => self.entered.insert(identity(&facts)),
                Err(error) => {
                    self.add_error(&path, rpc_error(error).message);
                    continue;
                }
            };
            match self.list(&directory) {
                Ok(found) => self.take(&path, depth, found),
                Err(error) => self.add_error(&path, error.message),
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let links = if self.options.follow_directory_symlinks { OFlags::empty() } else { OFlags::NOFOLLOW };
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | links, Mode::empty())
    }

    /// The first names in order, one more than may still be listed: a directory of millions must not fill the memory.
    fn list(&self, directory: &OwnedFd) -> Result<Vec<Found>, RpcError> {
        let room = self.room() + 1;
        let mut first = BinaryHeap::<Found>::new();
        for_each_name(directory, |name, kind| {
            let bytes = name.to_bytes();
            if first.len() == room && first.peek().is_some_and(|(last, _)| bytes >= &**last) {
                return Ok(());
            }
            if let Some(outcome) = self.examine(directory, name, kind) {
                first.push((bytes.into(), outcome));
                if first.len() > room {
                    first.pop();
                }
            }
            Ok(())
        })?;
        Ok(first.into_sorted_vec())
    }

    /// Entries and errors that may still be told, together.
    fn room(&self) -> usize {
        let told = self.result.entries.len() + self.result.errors.len();
        usize::try_from(self.options.max_entries).unwrap_or(usize::MAX).saturating_sub(told)
    }

    /// What to tell of a name; none for what a walk omits.
    fn examine(&self, directory: &OwnedFd, name: &CStr, kind: FileType) -> Option<Outcome> {
        if name.to_str().is_err() {
            return Some(Outcome::Failed(
                "the name is not UTF-8, which a walk cannot list; use fs/readDirectory".to_owned(),
            ));
        }
        let look = |flags| statat(directory, name, flags).map(|found| FileType::from_raw_mode(found.st_mode));
        let kind = match kind {
            FileType::Unknown => look(AtFlags::SYMLINK_NOFOLLOW),
            known => Ok(known),
        };
        let (kind, link) = match kind {
            Ok(FileType::Symlink) if self.options.follow_directory_symlinks => (look(AtFlags::empty()), true),
            other => (other, false),
        };
        match kind {
            Ok(FileType::Directory) => Some(Outcome::Directory),
            Ok(FileType::RegularFile) if !link => Some(Outcome::File),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(error) => Some(Outcome::Failed(rpc_error(error).message)),
        }
    }

    /// Puts what a directory holds into the result, up to the bounds.
    fn take(&mut self, directory: &Path, depth: u64, found: Vec<Found>) {
        for (name, outcome) in found {
            if self.room() == 0 {
                self.result.truncated = true;
                return;
            }
            let path = directory.join(OsStr::from_bytes(&name));
            let kind = match outcome {
                Outcome::File => WalkKind::File,
                Outcome::Directory => WalkKind::Directory,
                Outcome::Failed(message) => {
                    let shown = directory.join(&*String::from_utf8_lossy(&name));
                    self.add_error(&shown, message);
                    continue;
                }
            };
            if !self.spend(&path, 0) {
                return;
            }
            let pruned = self.options.prune_hidden_directories && name.starts_with(b".");
            if kind == WalkKind::Directory && depth < self.options.max_depth && !pruned {
                self.queue.push_back((path.clone(), depth + 1));
            }
            self.result.entries.push(WalkEntry { path: path.into(), kind });
        }
    }

    fn add_error(&mut self, path: &Path, message: String) {
        if self.room() == 0 {
            self.result.truncated = true;
        } else if self.spend(path, message.len()) {
            self.result.errors.push(WalkError { path: path.to_path_buf().into(), message });
        }
    }

    /// Counts an entry; false, and the walk ends, when the result would grow too large.
    fn spend(&mut self, path: &Path, more: usize) -> bool {
        match self.bytes_left.checked_sub(ENTRY_BYTES + WirePath::uri_of(path).len() + more) {
            Some(left) => {
                self.bytes_left = left;
                true
            }
            None => {
                self.result.truncated = true;
                false
            }
        }
    }
}
