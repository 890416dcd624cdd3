//! Keeps the file requests of one connection that meet on a path in the order they came; all others run beside each other.
//!
//! Two requests meet when one of their paths is the other's or leads to it, and at least one changes something there. A
//! walk, which only looks, holds up no change behind it.
//!
//! Paths are compared as they are written: what a symlink or `..` leads to is not known without asking the disk, and
//! asking is what has to wait.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{How, PathUse, resolves_without_io};

/// No system call takes a longer path (bytes; path_resolution(7)), so nothing is touched by one. Fixed by the kernel.
const LONGEST_PATH: usize = 4096;
/// So many parents of a directory that is to be made are looked for; beyond them, all below the root's child counts.
/// Chosen for speed.
const MOST_PARENTS: usize = 16;

/// The requests that have been read and are not done yet.
#[derive(Default)]
pub(crate) struct FileOrder(Mutex<Vec<Arc<Turn>>>);

/// What a request touches.
#[derive(Debug)]
pub(crate) struct Touched {
    path: PathBuf,
    how: How,
}

/// The turn of one request: it begins when every earlier turn on its paths is over.
struct Turn {
    touched: Vec<Touched>,
    /// Closed once it is over.
    over: Semaphore,
    done: AtomicBool,
}

/// A request's position among the others. Dropped before it is [`Self::done`], it is given up.
pub(crate) struct Position {
    order: Arc<FileOrder>,
    turn: Arc<Turn>,
    before: Before,
}

/// Requests that come first.
pub(crate) struct Before(Vec<Arc<Turn>>);

impl Before {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until they are over. False if one was given up, as with its connection, and will not be done.
    pub(crate) async fn over(&self) -> bool {
        let mut all_done = true;
        for turn in &self.0 {
            // Closed is what it waits for.
            let _ = turn.over.acquire().await;
            all_done &= turn.done.load(Ordering::Acquire);
        }
        all_done
    }
}

impl FileOrder {
    /// Gives a request its position, behind those that it meets. To be called in the order of the requests.
    pub(crate) fn enter(self: &Arc<Self>, touched: Vec<Touched>) -> Position {
        let mut turns = self.lock();
        let before = meeting(&turns, &touched);
        let turn = Arc::new(Turn { touched, over: Semaphore::new(0), done: AtomicBool::new(false) });
        turns.push(Arc::clone(&turn));
        drop(turns);
        Position { order: Arc::clone(self), turn, before }
    }

    /// Those that a request which touches this would have to wait for.
    pub(crate) fn before(&self, touched: impl FnOnce() -> Vec<Touched>) -> Before {
        let turns = self.lock();
        if turns.is_empty() { Before(Vec::new()) } else { meeting(&turns, &touched()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Turn>>> {
        self.0.lock()
    }
}

fn meeting(turns: &[Arc<Turn>], touched: &[Touched]) -> Before {
    let meets =
        |turn: &&Arc<Turn>| turn.touched.iter().any(|first| touched.iter().any(|second| first.meets(second)));
    Before(turns.iter().filter(meets).map(Arc::clone).collect())
}

impl Touched {
    fn meets(&self, later: &Self) -> bool {
        let holds_up = self.how.changes() || (self.how == How::Reads && later.how.changes());
        holds_up && (leads_to(&self.path, &later.path) || leads_to(&later.path, &self.path))
    }
}

/// Whether a path is the other, or one of its parents. Both are tidy, so that bytes are enough: with a thousand requests in
/// flight, each new one is compared a thousand times.
fn leads_to(first: &Path, second: &Path) -> bool {
    let (first, second) = (first.as_os_str().as_bytes(), second.as_os_str().as_bytes());
    second.strip_prefix(first).is_some_and(|rest| first == b"/" || matches!(rest, [] | [b'/', ..]))
}

impl Position {
    /// Waits for its turn.
    pub(crate) async fn comes(&self) {
        self.before.over().await;
    }

    /// What was asked has been done, well or not.
    pub(crate) fn done(self) {
        drop(self.done_when_dropped());
    }

    /// What was asked is done once this is dropped.
    pub(crate) fn done_when_dropped(self) -> Self {
        self.turn.done.store(true, Ordering::Release);
        self
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        self.order.lock().retain(|turn| !Arc::ptr_eq(turn, &self.turn));
        self.turn.over.close();
    }
}

/// What the paths of a request touch.
pub(crate) fn touched(paths: &[PathUse<'_>]) -> Vec<Touched> {
    let touched = |used: &PathUse<'_>| used.path.local().ok().and_then(|path| touched_path(path, used.how));
    paths.iter().filter_map(touched).collect()
}

/// What is touched by doing this to a path; nothing by one that is too long for the system.
pub(crate) fn touched_path(path: &Path, how: How) -> Option<Touched> {
    if path.as_os_str().len() > LONGEST_PATH {
        return None;
    }
    let path = if how == How::Makes { first_to_be_made(path) } else { path };
    Some(Touched { path: path.components().collect(), how })
}

/// A directory's parents may have to be made too: all below the last one that is surely there, as far as the kernel can
/// tell without waiting. Where it can't tell, that is all below the root's child.
fn first_to_be_made(path: &Path) -> &Path {
    let below_root = |path: &&Path| path.parent().is_some();
    let mut above = path.ancestors().filter(below_root);
    let mut first = path;
    for parent in above.by_ref().skip(1).take(MOST_PARENTS) {
        if resolves_without_io(parent) {
            return first;
        }
        first = parent;
    }
    above.last().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn changes(path: &Path) -> Option<Touched> {
        touched_path(path, How::Changes)
    }

    fn reads(path: &Path) -> Option<Touched> {
        touched_path(path, How::Reads)
    }

    fn sees(path: &Path) -> Option<Touched> {
        touched_path(path, How::Sees)
    }

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
            (changes(Path::new("/a//./b/")), reads(Path::new("/a/b")), true),
        ] {
            let order = Arc::new(FileOrder::default());
            let position = order.enter(first.into_iter().collect());
            let name = format!("{:?} and {second:?}", position.turn.touched);
            assert_eq!(!order.before(|| second.into_iter().collect()).is_empty(), meet, "{name}");
            drop(position);
            assert!(order.lock().is_empty(), "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_given_up_is_told_from_what_is_done() {
        let order = Arc::new(FileOrder::default());
        for done in [true, false] {
            let position = order.enter(changes(Path::new("/a")).into_iter().collect());
            let before = order.before(|| reads(Path::new("/a")).into_iter().collect());
            if done {
                position.done();
            } else {
                drop(position);
            }
            assert_eq!(before.over().await, done);
        }
    }

    #[test]
    fn the_longest_paths_cost_no_time() {
        let made = |path: &str| touched_path(Path::new(path), How::Makes);
        assert!(made(&"/q".repeat(8 << 20)).is_none());
        assert_eq!(made(&"/q".repeat(LONGEST_PATH / 2)).expect("short enough").path, Path::new("/q"));
    }

    #[tokio::test]
    async fn a_place_comes_when_those_before_it_are_done() {
        let order = Arc::new(FileOrder::default());
        let path = Path::new("/a");
        let first = order.enter(vec![changes(path).expect("short")]);
        let readers =
            [order.enter(vec![reads(path).expect("short")]), order.enter(vec![reads(path).expect("short")])];
        let last = order.enter(vec![changes(path).expect("short")]);
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
