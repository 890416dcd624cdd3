//! A tree, level by level: directories first, then what is in them, and the directories' own modes and times at the end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use super::{Transfer, is_missing};
use crate::protocol::filesystem::{CreateDirectoryParams, Entry, Kind, ListParams, PlaceParams};

/// Directories that are listed at once. Chosen for speed.
const LISTED: usize = 8;
/// Files on their way at once: as many as servers do beside each other. Chosen for speed.
const FILES: usize = 64;

/// A directory, and where its copy goes.
struct Pair {
    entry: Entry,
    destination: PathBuf,
    /// Whether the copy is there, so that it can be given its mode and time.
    made: AtomicBool,
}

impl Pair {
    fn new(entry: Entry, destination: PathBuf) -> Self {
        Self { entry, destination, made: AtomicBool::new(false) }
    }
}

/// Something in a directory, and what has the name of its copy now.
struct Found {
    entry: Entry,
    destination: PathBuf,
    there: Option<Entry>,
}

impl Transfer {
    /// Copies a directory with all that is in it.
    pub(super) async fn tree(&self, entry: Entry, destination: PathBuf) {
        let mut level = vec![Pair::new(entry, destination)];
        let mut done = Vec::new();
        while !level.is_empty() {
            let next = Mutex::new(Vec::new());
            stream::iter(&level)
                .map(|pair| self.contents(pair))
                .buffered(LISTED)
                .flat_map(stream::iter)
                .for_each_concurrent(FILES, |found| async {
                    let Found { entry, destination, there } = found;
                    if entry.kind == Kind::Directory {
                        next.lock().push(Pair::new(entry, destination));
                    } else {
                        self.one(&entry, &destination, there.as_ref()).await;
                    }
                })
                .await;
            done.extend(std::mem::replace(&mut level, next.into_inner()));
        }
        // From the deepest up, since what is made in a directory changes its time.
        let made = done.iter().filter(|pair| pair.made.load(Ordering::Relaxed));
        stream::iter(made.rev()).map(|pair| self.finish(pair)).buffered(FILES).collect::<Vec<()>>().await;
    }

    /// Makes the copy of a directory, and tells what goes into it.
    async fn contents(&self, pair: &Pair) -> Vec<Found> {
        let path = &pair.entry.path;
        let listed = async {
            let make = CreateDirectoryParams {
                path: pair.destination.clone().into(),
                recursive: Some(true),
                follow_symlinks: None,
                sandbox: None,
            };
            self.to.create_directory(make).await.map_err(|error| error.to_string())?;
            pair.made.store(true, Ordering::Relaxed);
            let list = |path| ListParams { path, sandbox: None };
            let (source, there) = tokio::join!(
                self.from.list_entries(list(path.clone())),
                self.to.list_entries(list(pair.destination.clone().into()))
            );
            let there = match there {
                Ok(there) => there.entries,
                Err(error) if is_missing(&error) => Vec::new(),
                Err(error) => return Err(error.to_string()),
            };
            Ok::<_, String>((source.map_err(|error| error.to_string())?.entries, there))
        };
        let (source, there) = match listed.await {
            Ok(listed) => listed,
            Err(reason) => {
                self.failed(path, reason);
                return Vec::new();
            }
        };
        let mut there: HashMap<OsString, Entry> =
            there.into_iter().filter_map(|entry| Some((name_of(&entry)?, entry))).collect();
        source
            .into_iter()
            .filter_map(|entry| {
                let name = name_of(&entry)?;
                let destination = pair.destination.join(&name);
                Some(Found { destination, there: there.remove(&name), entry })
            })
            .collect()
    }

    async fn finish(&self, pair: &Pair) {
        let params = PlaceParams {
            path: pair.destination.clone().into(),
            destination: None,
            size: None,
            sha256: None,
            mode: Some(pair.entry.mode),
            modified_at_ns: Some(pair.entry.modified_at_ns),
            replaces_sha256: None,
            sandbox: None,
        };
        if let Err(error) = self.to.place(params).await {
            self.failed(&pair.entry.path, format!("its mode and time can't be set: {error}"));
        }
    }
}

fn name_of(entry: &Entry) -> Option<OsString> {
    entry.path.local().ok().and_then(Path::file_name).map(OsString::from)
}
