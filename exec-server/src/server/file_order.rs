//! Keeps the file requests of one connection that meet on a path in the order they came; all others run beside each other.
//!
//! Two requests meet when one of their paths is the other's or leads to it, and at least one changes something there. Only a
//! walk, which may take long, holds up no change behind it.
//! Paths are compared as they are written: what a symlink leads to is not known without asking the disk, and asking is
//! what has to wait.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codex_exec_protocol::filesystem as files;
use tokio::sync::Semaphore;

use crate::filesystem::resolves_without_io;

/// The requests that have been read and are not done yet.
#[derive(Default)]
pub(super) struct FileOrder(Mutex<Vec<Arc<Turn>>>);

/// What a request touches.
#[derive(Debug)]
pub(super) struct Touched {
    path: PathBuf,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// What comes later may show, and does no harm.
    Sees,
    Reads,
    Changes,
}

/// A request's turn.
struct Turn {
    touched: Vec<Touched>,
    /// Closed once it is done.
    done: Semaphore,
}

/// A request's place among the others; it is done when this is dropped.
pub(super) struct Place {
    order: Arc<FileOrder>,
    turn: Arc<Turn>,
    before: Before,
}

/// Requests that come first.
pub(super) struct Before(Vec<Arc<Turn>>);

impl Before {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until they are done.
    pub(super) async fn done(&self) {
        for turn in &self.0 {
            // Closed is what it waits for.
            let _ = turn.done.acquire().await;
        }
    }
}

impl FileOrder {
    /// Gives a request its place, behind those that it meets. To be called in the order of the requests.
    pub(super) fn enter(self: &Arc<Self>, touched: Vec<Touched>) -> Place {
        let mut turns = self.lock();
        let before = meeting(&turns, &touched);
        let turn = Arc::new(Turn { touched, done: Semaphore::new(0) });
        turns.push(Arc::clone(&turn));
        drop(turns);
        Place { order: Arc::clone(self), turn, before }
    }

    /// Those that a request which touches this would have to wait for.
    pub(super) fn before(&self, touched: impl FnOnce() -> Vec<Touched>) -> Before {
        let turns = self.lock();
        if turns.is_empty() { Before(Vec::new()) } else { meeting(&turns, &touched()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Turn>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn meeting(turns: &[Arc<Turn>], touched: &[Touched]) -> Before {
    let meets =
        |turn: &&Arc<Turn>| turn.touched.iter().any(|first| touched.iter().any(|second| first.meets(second)));
    Before(turns.iter().filter(meets).map(Arc::clone).collect())
}

impl Touched {
    fn meets(&self, later: &Self) -> bool {
        let holds_up = self.how == How::Changes || (self.how == How::Reads && later.how == How::Changes);
        holds_up && (self.path.starts_with(&later.path) || later.path.starts_with(&self.path))
    }
}

impl Place {
    /// Waits for its turn.
    pub(super) async fn comes(&self) {
        self.before.done().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.order.lock().retain(|turn| !Arc::ptr_eq(turn, &self.turn));
        self.turn.done.close();
    }
}

/// What is there is looked at, as it happens to be.
fn sees(path: &Path) -> Touched {
    Touched { path: path.to_owned(), how: How::Sees }
}

/// The path is read, and so is whatever is below.
pub(super) fn reads(path: &Path) -> Touched {
    Touched { path: path.to_owned(), how: How::Reads }
}

/// The path, or something below, is changed.
pub(super) fn changes(path: &Path) -> Touched {
    Touched { path: path.to_owned(), how: How::Changes }
}

/// Params of a file request.
pub(super) trait Touches {
    fn touched(&self) -> Vec<Touched>;
}

macro_rules! touches {
    ($($how:ident: $($params:ident)*;)*) => {
        $($(impl Touches for files::$params {
            fn touched(&self) -> Vec<Touched> {
                self.path.local().into_iter().map($how).collect()
            }
        })*)*
    };
}

touches! {
    reads: GetMetadataParams ReadFileParams CanonicalizeParams ReadDirectoryParams;
    sees: WalkParams;
    changes: WriteFileParams RemoveParams;
}

impl Touches for files::CopyParams {
    fn touched(&self) -> Vec<Touched> {
        let source = self.source_path.local().into_iter().map(reads);
        source.chain(self.destination_path.local().into_iter().map(changes)).collect()
    }
}

impl Touches for files::OpenParams {
    fn touched(&self) -> Vec<Touched> {
        let replaces = self.mode == files::OpenMode::Replace;
        self.path.local().into_iter().map(if replaces { changes } else { reads }).collect()
    }
}

impl Touches for files::CreateDirectoryParams {
    fn touched(&self) -> Vec<Touched> {
        let Ok(mut first) = self.path.local() else { return Vec::new() };
        if self.recursive != Some(false) {
            // Its parents may have to be made too: all below the last one that is surely there.
            while let Some(parent) = first.parent()
                && parent.parent().is_some()
                && !resolves_without_io(parent)
            {
                first = parent;
            }
        }
        vec![changes(first)]
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn requests_meet_where_one_changes_what_the_other_touches() {
        for (first, second, meet) in [
            (changes(Path::new("/a/b")), changes(Path::new("/a/b")), true),
            (changes(Path::new("/a/b")), reads(Path::new("/a/b")), true),
            (reads(Path::new("/a/b")), changes(Path::new("/a/b")), true),
            (reads(Path::new("/a/b")), reads(Path::new("/a/b")), false),
            (changes(Path::new("/a/b")), sees(Path::new("/a")), true),
            (sees(Path::new("/a")), changes(Path::new("/a/b")), false),
            (changes(Path::new("/a")), reads(Path::new("/a/b/c")), true),
            (changes(Path::new("/a/b/c")), reads(Path::new("/a")), true),
            (changes(Path::new("/a/b")), changes(Path::new("/a/bc")), false),
            (changes(Path::new("/a/b")), changes(Path::new("/a/c")), false),
            (changes(Path::new("/")), reads(Path::new("/x")), true),
        ] {
            let order = Arc::new(FileOrder::default());
            let place = order.enter(vec![first]);
            let name = format!("{:?} and {second:?}", place.turn.touched);
            assert_eq!(!order.before(|| vec![second]).is_empty(), meet, "{name}");
            drop(place);
            assert!(order.lock().is_empty(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_place_comes_when_those_before_it_are_done() {
        let order = Arc::new(FileOrder::default());
        let path = Path::new("/a");
        let first = order.enter(vec![changes(path)]);
        let readers = [order.enter(vec![reads(path)]), order.enter(vec![reads(path)])];
        let last = order.enter(vec![changes(path)]);
        first.comes().await;
        assert!(readers[0].comes().now_or_never().is_none());
        drop(first);
        for reader in readers {
            reader.comes().await;
            assert!(last.comes().now_or_never().is_none());
        }
        last.comes().await;
    }
}
