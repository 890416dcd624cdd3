//! `fs/watchMissing` (10.11): tells once when paths that did not exist may have come to be.

pub(super) mod chain;

use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::chain::Watches;
use crate::Limits;
use crate::protocol::filesystem::WatchMissingParams;

/// One connection's watch, of which at most one runs. Holds no descriptor until first used; dropping it ends the watch.
pub(crate) struct MissingWatch {
    shared: Arc<Shared>,
    /// Paths of one watch.
    capacity: usize,
}

struct Shared {
    state: Mutex<State>,
    fired: Box<dyn Fn(u64) + Send + Sync>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    running: Option<(u64, AbortHandle)>,
}

/// A watch that is set but not yet told of: what changes from now on is kept until [`ArmedWatch::start`], so that the
/// notification can be sent behind the answer. Dropped instead, the watch is over.
pub(crate) struct ArmedWatch {
    id: u64,
    watches: Watches,
    shared: Weak<Shared>,
}

impl MissingWatch {
    /// `fired` is called once for each watch that ends by a change, with its id, from a task of the runtime: it must
    /// not block.
    pub(crate) fn new(limits: &Limits, fired: Box<dyn Fn(u64) + Send + Sync>) -> Self {
        let shared = Shared { state: Mutex::default(), fired };
        Self { shared: Arc::new(shared), capacity: limits.files.watched_paths }
    }

    /// Sets a watch; none is the answer `watching: false`. A good id ends the running watch either way. Looks at the
    /// disk: call it on a worker thread.
    pub(crate) fn arm(&self, params: &WatchMissingParams) -> Option<ArmedWatch> {
        {
            let mut state = self.shared.lock();
            if params.watch_id <= state.last_id {
                return None;
            }
            state.last_id = params.watch_id;
            state.stop();
        }
        if params.missing.is_empty() || params.missing.len() > self.capacity {
            return None;
        }
        let mut watches = Watches::new().ok()?;
        for path in &params.missing {
            watches.add_missing(path.local().ok()?)?;
        }
        if let Some(present) = &params.present {
            watches.add_present(present.local().ok()?)?;
        }
        Some(ArmedWatch { id: params.watch_id, watches, shared: Arc::downgrade(&self.shared) })
    }
}

impl Drop for MissingWatch {
    fn drop(&mut self) {
        self.shared.lock().stop();
    }
}

impl ArmedWatch {
    /// Begins to wait for changes, those since the watch was set included. Call it when the answer is on its way, inside
    /// a tokio runtime.
    pub(crate) fn start(self) {
        let (Some(shared), Ok(runtime)) = (self.shared.upgrade(), Handle::try_current()) else { return };
        let mut state = shared.lock();
        // A newer call has ended this watch already.
        if state.last_id != self.id {
            return;
        }
        let (id, weak) = (self.id, self.shared);
        let task = runtime.spawn(async move {
            wait_for_change(self.watches).await;
            if let Some(shared) = weak.upgrade() {
                shared.fire(id);
            }
        });
        state.running = Some((id, task.abort_handle()));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells of the change, unless the watch was replaced meanwhile.
    fn fire(&self, id: u64) {
        let current = {
            let mut state = self.lock();
            let current = state.running.as_ref().is_some_and(|(running, _)| *running == id);
            if current {
                state.running = None;
            }
            current
        };
        if current {
            (self.fired)(id);
        }
    }
}

impl State {
    fn stop(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
        }
    }
}

/// Returns at the first relevant change, and when changes can no longer be seen: better to fire for nothing than never.
async fn wait_for_change(watches: Watches) {
    // SAFETY: `watches` owns its descriptor, gives the same one each time, and closes it only when dropped.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register(watches) };
    let Ok(watches) = registered else { return };
    loop {
        let Ok(mut ready) = watches.readable().await else { return };
        match ready.get_inner().read_changes() {
            Ok(true) => return,
            Ok(false) | Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
