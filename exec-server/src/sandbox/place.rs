//! Looks paths up: where they really lead, and over which symlinks.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// Symlinks on one way, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Without symlinks. Names that do not exist are kept as they are.
    pub(super) real: PathBuf,
    /// The first name on the way that does not exist.
    pub(super) first_missing: Option<PathBuf>,
    /// The symlinks on the way, each by its real path, with its text.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
}

impl Place {
    pub(super) fn exists(&self) -> bool {
        self.first_missing.is_none()
    }
}

/// Follows an absolute path.
///
/// # Errors
/// When a directory on the way can't be looked into, for too many symlinks, and for `..` behind a missing name.
pub(super) fn locate(path: &Path) -> io::Result<Place> {
    let mut place = Place { real: PathBuf::from("/"), first_missing: None, links: Vec::new() };
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
        match std::fs::symlink_metadata(&place.real) {
            Ok(found) if found.is_symlink() => {
                if place.links.len() == MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let text = std::fs::read_link(&place.real)?;
                for name in names(&text).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(name);
                }
                let at = place.real.clone();
                place.real = if text.is_absolute() { PathBuf::from("/") } else { parent(&at) };
                place.links.push((at, text));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                place.first_missing = Some(place.real.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(place)
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
