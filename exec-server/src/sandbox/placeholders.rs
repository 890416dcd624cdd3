//! Holds the places of names that must not come to exist: an empty directory each, that is mounted over inside and
//! removed when nobody needs it any more.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2, unlinkat};

/// The places that this server made.
static MADE: LazyLock<Mutex<HashMap<PathBuf, Made>>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
struct Made {
    /// How many hold it.
    count: usize,
    /// The directory that it was made in, whatever name leads there by now. A program that may write the name's way could
    /// put a symlink there.
    parent: OwnedFd,
}

/// Places held until this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    places: Vec<PathBuf>,
}

fn made() -> MutexGuard<'static, HashMap<PathBuf, Made>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// Makes the places, or shares those that this server has made. What exists by now needs none.
    ///
    /// # Errors
    /// When a directory can't be made, by name.
    pub(super) fn new(places: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut held = Self::default();
        for place in places {
            held.hold(place).map_err(|error| (place.clone(), error))?;
        }
        Ok(held)
    }

    fn hold(&mut self, place: &Path) -> io::Result<()> {
        let mut made = made();
        if let Some(made) = made.get_mut(place) {
            made.count += 1;
        } else {
            let parent = parent_of(place)?;
            match mkdirat(&parent, last_name(place)?, Mode::from_raw_mode(0o755)).map_err(io::Error::from) {
                Ok(()) => drop(made.insert(place.to_owned(), Made { count: 1, parent })),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.places.push(place.to_owned());
        Ok(())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Never lets go: something that outlives its program still relies on the places.
    pub(crate) fn keep(mut self) {
        self.places.clear();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut made = made();
        for place in &self.places {
            let Some(held) = made.get_mut(place) else { continue };
            held.count -= 1;
            if held.count == 0
                && let Some(held) = made.remove(place)
                && let Ok(name) = last_name(place)
            {
                // Somebody else may have put something in it; then it is theirs.
                let _ = unlinkat(&held.parent, name, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// Opened without following any symlink: there was none when the place was looked up.
fn parent_of(place: &Path) -> io::Result<OwnedFd> {
    let parent = place.parent().ok_or(ErrorKind::InvalidInput)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(CWD, parent, flags, Mode::empty(), resolve)?)
}

fn last_name(place: &Path) -> io::Result<&std::ffi::OsStr> {
    place.file_name().ok_or_else(|| ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_made_and_removed_where_it_was_looked_up_and_nowhere_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().canonicalize().expect("it is there").join(name);
        let make = |name: &str| std::fs::create_dir_all(at(name)).expect("a directory");
        make("work");
        make("outside");
        let place = [at("work/.agents")];
        let held = Held::new(&place).expect("held");
        assert!(place[0].is_dir());
        // What a program of another sandbox may do: another directory under the same name.
        std::fs::rename(at("work"), at("moved")).expect("renamed");
        std::os::unix::fs::symlink(at("outside"), at("work")).expect("a link");
        make("outside/.agents");
        drop(held);
        assert!(at("outside/.agents").is_dir(), "what is outside stays");
        assert!(!at("moved/.agents").exists(), "what was made is removed");
        std::fs::remove_dir(at("outside/.agents")).expect("removed");
        Held::new(&place).expect_err("the way leads over a symlink");
        assert!(!at("outside/.agents").exists());
    }
}
