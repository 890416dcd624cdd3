//! Remembers what a login shell makes of an environment, so that the next command need not log in (21.9).
//!
//! `bash -lc TEXT` reads the user's start-up files each time, which may take a hundred times as long as TEXT. Here that is
//! done once: the variables, functions, aliases and options that are there afterwards are written as a script into a
//! sealed file without a name, and each command gets a descriptor of it. What is remembered holds for one environment and
//! scope, as long as the start-up files are as they were, and for an hour at most.

mod capture;
mod files;
mod variables;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use sha2::{Digest, Sha256};

use crate::limits::ProcessLimits;
use crate::protocol::process::StartParams;
use crate::sandbox::spare;
use files::Stamps;
use variables::{Variables, is_passing};

/// The number that a command finds its state at: the first behind the standard streams.
const STATE_FD: u32 = 3;

/// A login shell that a request would start, and may have the state of instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginShell<'a> {
    /// As in `argv`.
    shell: &'a str,
    /// What shares a state.
    scope: &'a str,
    /// What it is to run.
    text: &'a str,
}

impl<'a> LoginShell<'a> {
    /// The login shell of a request that wants a remembered state; only for bash, since only of bash it is known how to
    /// take and give it. Under a sandbox a command logs in itself: start-up files may be what it is kept from, or what it
    /// has changed.
    pub(crate) fn of(params: &'a StartParams) -> Option<Self> {
        let [shell, flag, text] = params.argv.as_slice() else { return None };
        let is_bash = Path::new(shell).file_name() == Some(OsStr::new("bash"));
        if flag != "-lc" || !is_bash || params.arg0.is_some() || params.sandbox.is_some() {
            return None;
        }
        match &params.shell_snapshot {
            Some(asked) if asked.shell.name == "bash" && asked.shell.path == *shell => {
                Some(Self { shell, scope: &asked.scope_id, text })
            }
            None if params.login_environment.is_some() => Some(Self { shell, scope: "", text }),
            _ => None,
        }
    }

    /// The command without login, which reads its state from a descriptor; in the words of released servers.
    fn with_state(self) -> Vec<String> {
        let text = self.text;
        let script = format!(
            "set +o privileged\nif ! . /dev/fd/{STATE_FD} >/dev/null; then printf 'failed to restore shell snapshot\\n' >&2; fi\n\
             {text}"
        );
        vec![self.shell.to_owned(), "-pc".to_owned(), script]
    }
}

/// What is remembered. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LoginStates(Arc<Mutex<HashMap<Key, Arc<Entry>>>>);

/// Shell, scope and environment. A digest, since nothing else is needed of them.
type Key = [u8; 32];

#[derive(Debug, Default)]
struct Entry(Mutex<Option<State>>);

/// One state.
#[derive(Debug)]
struct State {
    /// The script; none if what the shell does can't be remembered, so that it is not tried at each command.
    script: Option<Arc<OwnedFd>>,
    files: Stamps,
    made: Instant,
}

impl State {
    fn is_fresh(&self, limits: &ProcessLimits) -> bool {
        self.made.elapsed() < limits.login_state_time && self.files.are_unchanged()
    }
}

impl LoginStates {
    /// Turns the request's login shell into a command with a remembered state, and gives the descriptor that the command
    /// needs as number 3. None, and the request as it was, where nothing is to be remembered or can be. Blocks, for as
    /// long as a login takes if the state is not known yet.
    pub(crate) fn apply(
        &self,
        params: &mut StartParams,
        env: &Variables,
        limits: &ProcessLimits,
    ) -> Option<Arc<OwnedFd>> {
        let login = LoginShell::of(params)?;
        let script = self.state(login, env, limits)?;
        params.argv = login.with_state();
        Some(script)
    }

    fn state(&self, login: LoginShell<'_>, env: &Variables, limits: &ProcessLimits) -> Option<Arc<OwnedFd>> {
        let env: Vec<_> = env.iter().filter(|(name, _)| !is_passing(name)).cloned().collect();
        let entry = self.entry(key(login, &env), limits.login_states);
        // Commands that come at once wait for one login instead of logging in each.
        let mut state = entry.0.lock();
        if !state.as_ref().is_some_and(|state| state.is_fresh(limits)) {
            *state = Some(remember(login.shell, &env, limits));
        }
        state.as_ref()?.script.clone()
    }

    fn entry(&self, key: Key, most: usize) -> Arc<Entry> {
        let mut entries = self.0.lock();
        if entries.len() >= most && !entries.contains_key(&key) {
            let age = |entry: &Entry| entry.0.try_lock()?.as_ref().map(|state| state.made);
            let oldest = entries.iter().filter_map(|(key, entry)| Some((age(entry)?, *key))).min();
            if let Some((_, oldest)) = oldest {
                entries.remove(&oldest);
            }
        }
        Arc::clone(entries.entry(key).or_default())
    }
}

fn key(login: LoginShell<'_>, env: &Variables) -> Key {
    use std::os::unix::ffi::OsStrExt as _;
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(login.shell.as_bytes());
    add(login.scope.as_bytes());
    for (name, value) in env {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    digest.finalize().into()
}

/// Logs in once.
fn remember(shell: &str, env: &Variables, limits: &ProcessLimits) -> State {
    let made = Instant::now();
    // Before the shell reads them: what changes meanwhile counts as changed.
    let mut files = Stamps::take(env);
    let script = match capture::state(shell, env, limits) {
        Ok(captured) => {
            files.add(&captured.environment);
            sealed(&captured.script).map_err(|error| error.to_string())
        }
        Err(why) => Err(why),
    };
    let script = script.map_err(|why| tracing::debug!(why, "a login shell's state is not remembered"));
    State { script: script.ok().map(Arc::new), files, made }
}

/// A file without a name that nobody can change, and that only this user's processes can open.
fn sealed(script: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("login", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::fchmod(&file, Mode::RUSR)?;
    let mut file = std::fs::File::from(file);
    file.write_all(script)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    spare(file)
}

#[cfg(test)]
mod tests;
