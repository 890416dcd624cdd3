//! Holds the places of names that must not come to exist: an empty directory each, that is mounted over inside and
//! removed when nobody needs it any more.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// How many hold each place that this server made.
static MADE: LazyLock<Mutex<HashMap<PathBuf, usize>>> = LazyLock::new(Mutex::default);

/// Places held until this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    places: Vec<PathBuf>,
}

fn made() -> MutexGuard<'static, HashMap<PathBuf, usize>> {
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
        if let Some(count) = made.get_mut(place) {
            *count += 1;
        } else {
            match std::fs::DirBuilder::new().mode(0o755).create(place) {
                Ok(()) => drop(made.insert(place.to_owned(), 1)),
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
            let Some(count) = made.get_mut(place) else { continue };
            *count -= 1;
            if *count == 0 {
                made.remove(place);
                // Somebody else may have put something in it; then it is theirs.
                let _ = std::fs::remove_dir(place);
            }
        }
    }
}
