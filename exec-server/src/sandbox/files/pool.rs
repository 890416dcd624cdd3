//! The helpers of one connection: made when a policy is first used, kept while they fit, bounded.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use codex_children::posix::Streams;
use codex_children::{reap, tree};
use codex_exec_protocol::RpcError;
use codex_exec_protocol::sandbox::Sandbox;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::process::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{Asked, Bounds, Operation, Told};
use super::prepared::{Fit, Memory, Prepared};
use crate::Limits;
use crate::blocking;
use crate::sandbox::Confiner;
use crate::sandbox::start::{self, NotStarted, Started};
use crate::sandbox::task::{Confinement, LauncherTask, Work};
use crate::sandbox::wire::{receive, send};

/// One connection's helpers. Dropping it ends them.
pub struct FileHelpers {
    confiner: Option<Arc<Confiner>>,
    bounds: Bounds,
    /// Helpers at once; more operations wait for one.
    most: usize,
    /// Helpers kept ready, the latest used.
    most_idle: usize,
    prepared: Memory,
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

/// Dropped, its process is ended and reaped.
struct Helper {
    fit: Arc<Fit>,
    wire: OwnedFd,
    pid: Pid,
}

impl FileHelpers {
    /// No helpers yet; without a confiner there will be none, and everything is refused.
    pub fn new(confiner: Option<Arc<Confiner>>, limits: &Limits) -> Self {
        Self {
            confiner,
            bounds: Bounds::of(limits),
            most: limits.sandbox.file_helpers.max(1),
            most_idle: limits.sandbox.idle_file_helpers,
            prepared: Memory::default(),
            helpers: Mutex::default(),
            one_less: Condvar::new(),
        }
    }

    /// What a sandbox allows.
    ///
    /// # Errors
    /// `-32600` for a sandbox that makes no sense, or that nothing here enforces.
    pub(super) fn prepare(&self, sandbox: &Sandbox) -> Result<Arc<Prepared>, RpcError> {
        self.prepared.prepare(self.confiner()?, sandbox)
    }

    fn confiner(&self) -> Result<&Arc<Confiner>, RpcError> {
        self.confiner.as_ref().ok_or_else(|| {
            RpcError::invalid_request(
                "this server cannot enforce a sandbox that restricts files; \
                 leave `sandbox` out, or use permissions of type `disabled` or `external`",
            )
        })
    }

    /// Has something done under a policy, with the paths that it is done to. Blocks.
    ///
    /// # Errors
    /// What the operation says, `-32600` when the policy can't be enforced, `-32603` when a helper fails.
    pub(super) fn ask<R: DeserializeOwned>(
        &self,
        prepared: &Prepared,
        work: Operation,
        used: &[&Path],
        params: &impl Serialize,
    ) -> Result<(R, Option<OwnedFd>), RpcError> {
        let confiner = self.confiner()?;
        let params = serde_json::to_string(params).map_err(broken)?;
        let asked = Asked { method: work.method, bounds: self.bounds, params: &params };
        if work.creates && prepared.has_placeholders() {
            // The places are held for this one operation, so that they are not seen for longer.
            let (walls, held) = confiner.confine_creating(&prepared.policy)?;
            let _slot = self.slot();
            let helper = Helper::start(confiner, Arc::new(Fit::of(walls)))?;
            helper.send(&asked)?;
            let answer = helper.answer();
            if answer.is_ok() {
                used.iter().for_each(|path| held.leave(path));
            }
            return answer;
        }
        // One that has died while it waited has done nothing; one that dies now, nothing that can't be done again.
        while let Some(helper) = self.take(&prepared.fit) {
            let sent = helper.send(&asked);
            let may_repeat = sent.is_err() || !work.changes;
            let answer = sent.and_then(|()| helper.answer());
            let broken = answer.as_ref().err().is_some_and(is_broken);
            self.put_back(helper, broken);
            if !broken || !may_repeat {
                return answer;
            }
        }
        let slot = self.slot();
        let helper = Helper::start(confiner, Arc::clone(&prepared.fit))?;
        // From now on the helper itself is counted.
        slot.keep();
        let answer = helper.send(&asked).and_then(|()| helper.answer());
        self.put_back(helper, answer.as_ref().err().is_some_and(is_broken));
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Helpers> {
        self.helpers.lock()
    }

    fn take(&self, fit: &Arc<Fit>) -> Option<Helper> {
        let fits = |helper: &Helper| helper.fit.serves(fit);
        let mut helpers = self.lock();
        let at = helpers.idle.iter().rposition(fits)?;
        Some(helpers.idle.remove(at))
    }

    /// Waits for room for one more helper, and makes it if idle ones take it.
    fn slot(&self) -> Slot<'_> {
        let mut helpers = self.lock();
        while helpers.count >= self.most && helpers.idle.is_empty() {
            self.one_less.wait(&mut helpers);
        }
        let surplus = (helpers.count >= self.most).then(|| helpers.idle.remove(0));
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
            (helpers.idle.len() > self.most_idle).then(|| helpers.idle.remove(0))
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

impl Helper {
    fn start(confiner: &Confiner, fit: Arc<Fit>) -> Result<Self, RpcError> {
        let null = start::null()
            .map_err(|error| RpcError::internal(format!("can't start a file helper: {error}")))?;
        let confinement = Confinement::Walls(fit.walls.clone());
        let task = LauncherTask { confinement, work: Work::Files };
        match start::start(confiner.launcher(), &task, Streams::Each([null.as_fd(); 3])) {
            Ok(Started { spawned, wire, .. }) => Ok(Self { fit, wire, pid: spawned.pid }),
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

    fn send(&self, asked: &Asked<'_>) -> Result<(), RpcError> {
        send(&self.wire, asked, &[]).map_err(broken)
    }

    fn answer<R: DeserializeOwned>(&self) -> Result<(R, Option<OwnedFd>), RpcError> {
        let answer = receive(&self.wire).map_err(broken)?.ok_or_else(|| broken("it has ended"))?;
        match answer.message::<Told<&str>>().map_err(broken)? {
            Told::Done(result) => {
                let result = serde_json::from_str(result).map_err(broken)?;
                Ok((result, answer.descriptors.into_iter().next()))
            }
            Told::Failed(error) => Err(serde_json::from_str(error).unwrap_or_else(broken)),
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

impl Drop for Helper {
    fn drop(&mut self) {
        let pid = self.pid;
        let _ = tree::kill_group(pid, rustix::process::Signal::KILL);
        match tokio::runtime::Handle::try_current() {
            Ok(_) => blocking::spawn(move || reap::wait_for_killed(pid)).detach(),
            Err(_) => reap::wait_for_killed(pid),
        }
    }
}
