//! The helpers of one connection: made when a policy is first used, kept while they fit, bounded.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::sandbox::Sandbox;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{receive, send};
use super::words::{Asked, Bounds, Told, Work};
use crate::Limits;
use crate::process::confined::{self, NotStarted};
use crate::process::posix::Streams;
use crate::sandbox::order::{Confinement, Order, Task};
use crate::sandbox::{Confiner, Files, Policy};

/// Helpers of one connection at once; more operations wait for one.
const MOST_HELPERS: usize = 8;
/// Helpers kept ready, the latest used.
const MOST_IDLE: usize = 4;

/// One connection's helpers. Dropping it ends them.
pub struct FileHelpers {
    confiner: Option<Arc<Confiner>>,
    bounds: Bounds,
    helpers: Mutex<Helpers>,
    one_less: Condvar,
}

#[derive(Default)]
struct Helpers {
    /// The latest used last.
    idle: Vec<Helper>,
    /// Started or being started, the idle ones among them.
    count: usize,
}

struct Helper {
    fit: Fit,
    socket: OwnedFd,
    /// Ends with the helper.
    _process: Process,
}

/// What makes a helper the right one: its confinement, and that the paths in it are still the same things.
#[derive(Debug, Clone, PartialEq)]
struct Fit {
    confinement: Confinement,
    things: Vec<Option<(u64, u64)>>,
    /// Names that came to the root are not in an older view.
    root_changed: (i64, i64),
}

/// A helper's process; dropped, it is ended and reaped.
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl FileHelpers {
    /// No helpers yet; without a confiner there will be none, and everything is refused.
    pub fn new(confiner: Option<Arc<Confiner>>, limits: &Limits) -> Self {
        Self { confiner, bounds: Bounds::of(limits), helpers: Mutex::default(), one_less: Condvar::new() }
    }

    /// What a sandbox allows.
    ///
    /// # Errors
    /// `-32600` for a sandbox that makes no sense, or that nothing here enforces.
    pub(super) fn policy(&self, sandbox: &Sandbox) -> Result<Policy, RpcError> {
        Ok(self.confiner()?.policy(sandbox)?)
    }

    fn confiner(&self) -> Result<&Arc<Confiner>, RpcError> {
        self.confiner.as_ref().ok_or_else(|| {
            RpcError::invalid_request(
                "this server cannot enforce a sandbox that restricts files; \
                 leave `sandbox` out, or use permissions of type `disabled` or `external`",
            )
        })
    }

    /// Has something done under a policy. Blocks.
    ///
    /// # Errors
    /// What the operation says, `-32600` when the policy can't be enforced, `-32603` when a helper fails.
    pub(super) fn ask<R: DeserializeOwned>(
        &self,
        policy: &Policy,
        work: Work,
        params: &impl Serialize,
    ) -> Result<(R, Option<OwnedFd>), RpcError> {
        let confiner = self.confiner()?;
        let places = matches!(&policy.files, Files::Rules(rules) if !rules.placeholders().is_empty());
        if work.creates() && places {
            // The places are held for this one operation, so that they are not seen for longer.
            let confined = confiner.confine(policy)?;
            let _slot = self.slot();
            let helper = Helper::start(confiner, Fit::of(confined.confinement.clone()))?;
            return helper.ask(work, self.bounds, params);
        }
        let fit = Fit::of(confiner.confine_reading(policy)?);
        let helper = match self.take(&fit) {
            Some(helper) => helper,
            None => {
                let slot = self.slot();
                let helper = Helper::start(confiner, fit)?;
                // From now on the helper itself is counted.
                slot.keep();
                helper
            }
        };
        let answer = helper.ask(work, self.bounds, params);
        self.put_back(helper, answer.as_ref().err().is_some_and(is_broken));
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Helpers> {
        self.helpers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, fit: &Fit) -> Option<Helper> {
        let mut helpers = self.lock();
        let at = helpers.idle.iter().rposition(|helper| helper.fit == *fit)?;
        Some(helpers.idle.remove(at))
    }

    /// Waits for room for one more helper, and makes it if idle ones take it.
    fn slot(&self) -> Slot<'_> {
        let mut helpers = self.lock();
        while helpers.count >= MOST_HELPERS && helpers.idle.is_empty() {
            helpers = self.one_less.wait(helpers).unwrap_or_else(PoisonError::into_inner);
        }
        let surplus = (helpers.count >= MOST_HELPERS).then(|| helpers.idle.remove(0));
        helpers.count += usize::from(surplus.is_none());
        drop(helpers);
        drop(surplus);
        Slot { pool: self }
    }

    fn put_back(&self, helper: Helper, broken: bool) {
        let mut helpers = self.lock();
        let surplus = if broken {
            Some(helper)
        } else {
            helpers.idle.push(helper);
            (helpers.idle.len() > MOST_IDLE).then(|| helpers.idle.remove(0))
        };
        helpers.count -= usize::from(surplus.is_some());
        drop(helpers);
        self.one_less.notify_one();
        drop(surplus);
    }
}

/// Room for one helper, given back at the end.
struct Slot<'p> {
    pool: &'p FileHelpers,
}

impl Slot<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.pool.lock().count -= 1;
        self.pool.one_less.notify_one();
    }
}

impl Work {
    /// Whether names may come to exist by it.
    fn creates(self) -> bool {
        matches!(self, Self::OpenToReplace | Self::CreateDirectory | Self::Copy)
    }
}

impl Fit {
    fn of(mut confinement: Confinement) -> Self {
        // A helper has no use for the network.
        confinement.network = false;
        let identity = |path| std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let things = confinement.regions.iter().map(|region| identity(region.path())).collect();
        let root = std::fs::metadata("/").ok();
        let root_changed = root.map_or((0, 0), |root| (root.mtime(), root.mtime_nsec()));
        Self { confinement, things, root_changed }
    }
}

impl Helper {
    fn start(confiner: &Confiner, fit: Fit) -> Result<Self, RpcError> {
        let failed =
            |error: std::io::Error| RpcError::internal(format!("can't start a file helper: {error}"));
        let pair = || -> std::io::Result<_> {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
            let spare = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 8);
            Ok((ours, spare(&theirs)?, spare(&OwnedFd::from(null))?))
        };
        let (socket, theirs, null) = pair().map_err(failed)?;
        let order = Order { confinement: fit.confinement.clone(), task: Some(Task::Files(true)) };
        use std::os::fd::AsFd;
        let streams = Streams::Each([theirs.as_fd(), null.as_fd(), null.as_fd()]);
        match confined::start(confiner.launcher(), &order, streams, None) {
            Ok((pid, pidfd, _)) => {
                confined::is_helper(pid);
                Ok(Self { fit, socket, _process: Process { pid, pidfd } })
            }
            Err(NotStarted::System(what, error)) => {
                Err(RpcError::internal(format!("can't {what} for a file operation: {error}")))
            }
            Err(NotStarted::Failed(failure)) => Err(RpcError::invalid_request(format!(
                "the sandbox can't be entered, so nothing is done: can't {}: {}",
                failure.what,
                failure.error()
            ))),
        }
    }

    fn ask<R: DeserializeOwned>(
        &self,
        work: Work,
        bounds: Bounds,
        params: &impl Serialize,
    ) -> Result<(R, Option<OwnedFd>), RpcError> {
        let params = serde_json::value::to_raw_value(params).map_err(broken)?;
        let asked = serde_json::to_vec(&Asked { work, bounds, params: &params }).map_err(broken)?;
        send(&self.socket, &asked, None).map_err(broken)?;
        let (answer, file) = receive(&self.socket).map_err(broken)?.ok_or_else(|| broken("it has ended"))?;
        match serde_json::from_slice(&answer).map_err(broken)? {
            Told::Done(result) => Ok((result, file)),
            Told::Failed(error) => Err(error),
        }
    }
}

const BROKEN: &str = "a file helper failed: ";

fn broken(error: impl std::fmt::Display) -> RpcError {
    RpcError::internal(format!("{BROKEN}{error}"))
}

fn is_broken(error: &RpcError) -> bool {
    error.message.starts_with(BROKEN)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        let pid = self.pid;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || confined::wait_for(pid))),
            Err(_) => confined::wait_for(pid),
        }
    }
}
