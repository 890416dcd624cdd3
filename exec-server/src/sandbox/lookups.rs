//! Looks paths up: where they really lead, and over which symlinks.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

use crate::statx::statx;

/// Symlinks on one way, as many as the kernel follows. Fixed by the kernel.
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// Without symlinks. Names that do not exist are kept as they are.
    pub(super) real: PathBuf,
    /// The first name on the way that does not exist.
    pub(super) first_missing: Option<PathBuf>,
    /// The symlinks on the way, each by its real path, with its text.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// The directory that the first missing name may be in, for nobody may look into it now, but whose programs may open it
    /// again: it is this user's own.
    pub(super) shut: Option<PathBuf>,
}

impl Location {
    pub(super) fn exists(&self) -> bool {
        self.first_missing.is_none()
    }
}

/// All that was looked at, each name once, so that whether it is still so can be asked again.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    names: HashMap<PathBuf, Found>,
    /// Beginnings of files; none for what can't be read.
    texts: HashMap<PathBuf, Option<String>>,
    /// Something was looked at that is not remembered here.
    incomplete: bool,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, and how the system says so.
    Missing(ErrorKind),
    /// A symlink, with its text.
    Link(PathBuf),
    /// Unknown: this user may not look into its directory, which is the user's own or not.
    Shut { is_own: bool },
    /// Anything else.
    Thing { is_file: bool, is_placeholder: bool, identity: Identity },
}

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// Device and inode.
    number: (u64, u64),
    /// When it was made, where the file system knows: numbers are given again, but not with the same time.
    pub(super) birth: Option<(i64, u32)>,
}

impl Identity {
    /// The identity of what is at this path; `None` if nothing is. Symlinks are not followed.
    pub(super) fn at(path: &Path) -> Option<Self> {
        facts(path).ok().map(|found| Self::of(&found))
    }

    fn of(found: &Statx) -> Self {
        let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
        let knows = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let birth = knows.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
        Self { number: (device, found.stx_ino), birth }
    }
}

fn facts(path: &Path) -> io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::BTIME | StatxFlags::MTIME;
    Ok(statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted)?)
}

impl Lookups {
    /// What a name is, without following it.
    ///
    /// # Errors
    /// When the file system doesn't tell, or it is a symlink that can't be read.
    pub(super) fn find(&mut self, path: &Path) -> io::Result<Found> {
        if let Some(found) = self.names.get(path) {
            return Ok(found.clone());
        }
        match look(path) {
            Ok(found) => {
                self.names.insert(path.to_owned(), found.clone());
                Ok(found)
            }
            Err(error) => {
                self.incomplete = true;
                Err(error)
            }
        }
    }

    /// The text of a small file, as `read` reads it.
    pub(super) fn text(&mut self, path: &Path) -> Option<String> {
        self.texts.entry(path.to_owned()).or_insert_with(|| read_beginning(path)).clone()
    }

    /// From now on nobody can ask whether all of it is still so.
    pub(super) fn is_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// Whether everything looked at is surely as it was: whatever was found out from it would be found out again.
    pub(super) fn still_hold(&self) -> bool {
        !self.incomplete
            && self.names.iter().all(|(path, found)| look(path).is_ok_and(|now| now == *found))
            && self.texts.iter().all(|(path, text)| read_beginning(path) == *text)
    }

    /// Follows an absolute path.
    ///
    /// # Errors
    /// When the file system doesn't tell, for too many symlinks, and for `..` behind a missing name.
    pub(super) fn locate(&mut self, path: &Path) -> io::Result<Location> {
        let mut place =
            Location { real: PathBuf::from("/"), first_missing: None, links: Vec::new(), shut: None };
        let mut ahead: VecDeque<OsString> = names(path).collect();
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                if place.first_missing.is_some() {
                    return Err(io::Error::new(
                        ErrorKind::InvalidInput,
                        "`..` behind a name that does not exist",
                    ));
                }
                place.real.pop();
                continue;
            }
            place.real.push(&name);
            if place.first_missing.is_some() {
                continue;
            }
            match self.find(&place.real)? {
                Found::Link(text) => {
                    if place.links.len() == MOST_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    for name in names(&text).collect::<Vec<_>>().into_iter().rev() {
                        ahead.push_front(name);
                    }
                    let at = place.real.clone();
                    place.real = if text.is_absolute() { PathBuf::from("/") } else { parent(&at) };
                    place.links.push((at, text));
                }
                Found::Thing { .. } => {}
                Found::Missing(_) => place.first_missing = Some(place.real.clone()),
                Found::Shut { is_own } => {
                    place.shut = is_own.then(|| parent(&place.real));
                    place.first_missing = Some(place.real.clone());
                }
            }
        }
        Ok(place)
    }
}

/// [`Lookups::locate`], once.
pub(super) fn locate(path: &Path) -> io::Result<Location> {
    Lookups::default().locate(path)
}

fn look(path: &Path) -> io::Result<Found> {
    let found = match facts(path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Found::Missing(error.kind()));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let directory = parent(path);
            // Some mounts of one user are closed even to an administrator; nothing opens those.
            return Ok(Found::Shut { is_own: !is_searchable(&directory) && could_open(&directory) });
        }
        Err(error) => return Err(error),
    };
    match FileType::from_raw_mode(found.stx_mode.into()) {
        FileType::Symlink => std::fs::read_link(path).map(Found::Link),
        kind => Ok(Found::Thing {
            is_file: kind == FileType::RegularFile,
            is_placeholder: kind == FileType::Directory
                && (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec) == (PLACEHOLDER_TIME, 0),
            identity: Identity::of(&found),
        }),
    }
}

/// When every placeholder was changed last, in seconds since 1970: a moment in 2001 by which those are known that a killed
/// server left behind.
pub(super) const PLACEHOLDER_TIME: i64 = 981_173_106;

/// Whether programs of this user could open a directory that this user can't look into now, by changing its mode.
pub(super) fn could_open(directory: &Path) -> bool {
    let user = rustix::process::geteuid();
    user.is_root()
        || std::fs::metadata(directory)
            .is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == user.as_raw())
}

fn is_searchable(directory: &Path) -> bool {
    rustix::fs::accessat(CWD, directory, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// How much of a file is read as text. A safeguard, far from any real use.
const TEXT_BYTES: u64 = 4096;

fn read_beginning(file: &Path) -> Option<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(file).ok()?;
    let mut text = String::new();
    opened.take(TEXT_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The names in a path, `..` among them.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Whether a path holds `..`.
pub(super) fn climbs(path: &Path) -> bool {
    path.components().any(|component| component == Component::ParentDir)
}
