//! Keeps a launcher ready for the next confined program: starting this binary once more takes longer than confining it.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use codex_children::posix::Streams;
use parking_lot::{Mutex, MutexGuard};

use super::start::{self, NotStarted, Spare, Started};
use super::task::{LauncherTask, Namespaces};
use crate::blocking;

/// At most one launcher that waits; there from the second confined program on.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Ready>);

#[derive(Debug, Default)]
enum Ready {
    #[default]
    None,
    /// Somebody is starting one.
    Soon,
    Waits(Spare),
}

impl Spares {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock()
    }

    /// Starts a confined program as [`start::start`] does, faster if a launcher is ready. Blocks.
    pub(crate) fn start(
        self: &Arc<Self>,
        launcher: &Path,
        task: &LauncherTask,
        streams: [BorrowedFd<'_>; 3],
        passed: Option<BorrowedFd<'_>>,
    ) -> Result<Started, NotStarted> {
        let spare = {
            let mut ready = self.lock();
            match std::mem::take(&mut *ready) {
                Ready::Waits(spare) => Some(spare).filter(|spare| spare.fits(task)),
                other => {
                    *ready = other;
                    None
                }
            }
        };
        let started = spare.and_then(|spare| spare.become_program(task, streams, passed));
        let started =
            started.unwrap_or_else(|| start::start_passing(launcher, task, Streams::Each(streams), passed));
        self.refill(launcher, task.moves_with());
        started
    }

    /// Starts the next one, beside whatever is done now.
    fn refill(self: &Arc<Self>, launcher: &Path, moves_with: Option<Namespaces>) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        {
            let mut ready = self.lock();
            if !matches!(*ready, Ready::None) {
                return;
            }
            *ready = Ready::Soon;
        }
        let (spares, launcher) = (Arc::downgrade(self), launcher.to_owned());
        let start = move || {
            let started = Spare::start(&launcher, moves_with);
            // Without it the next program is started the longer way, which also tells what is wrong.
            let next = started.map_or(Ready::None, Ready::Waits);
            if let Some(spares) = spares.upgrade() {
                *spares.lock() = next;
            }
        };
        blocking::spawn(start).detach();
    }
}
