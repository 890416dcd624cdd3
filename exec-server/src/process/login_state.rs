//! Remembers what a login shell makes of an environment, so that the next command need not log in (21.9).
//!
//! `bash -lc TEXT` reads the user's start-up files each time, which may take a hundred times as long as TEXT. Here that is
//! done once: the variables, functions, aliases and options that are there afterwards are written as a script into a
//! sealed file without a name, and each command gets a descriptor of it. What is remembered holds for one environment,
//! scope and sandbox, as long as the start-up files are as they were, and for an hour at most. Under a sandbox the login
//! has the same sandbox: the files may be what the command is kept from, or what it has changed.

mod bash;
mod capture;
mod files;
mod language;
mod script;
mod variables;
mod zsh;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use sha2::{Digest, Sha256};

use crate::limits::ProcessLimits;
use crate::protocol::process::StartParams;
use crate::sandbox::{Confined, PASSED_AT, spare};
use files::Stamps;
use language::Language;
use script::Script;
use variables::{Variables, is_passing};

/// The number that a command without a sandbox finds its state at: the first behind the standard streams.
const STATE_FD: i32 = 3;

/// Where a command runs, and its login.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Without a sandbox.
    Open,
    /// Under one.
    Confined {
        /// What enters it.
        launcher: &'a Path,
        /// What it is.
        confined: &'a Confined,
    },
}

impl<'a> Place<'a> {
    /// The place of a command with this confinement. None where the command has bounds that a login would not have.
    pub(super) fn of(confined: Option<&'a (PathBuf, Confined)>) -> Option<Self> {
        match confined {
            None => Some(Self::Open),
            Some((launcher, confined)) if confined.has_walls() => Some(Self::Confined { launcher, confined }),
            Some(_) => None,
        }
    }

    /// The number that a command finds its state at.
    fn number(self) -> i32 {
        match self {
            Self::Open => STATE_FD,
            Self::Confined { .. } => PASSED_AT,
        }
    }
}

/// A login shell that a request would start, and may have the state of instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginShell<'a> {
    language: Language,
    /// As in `argv`.
    shell: &'a str,
    /// What shares a state.
    scope: &'a str,
    /// What it is to run.
    text: &'a str,
}

impl<'a> LoginShell<'a> {
    /// The login shell of a request that wants a remembered state; for bash and zsh, since only of those it is known how to
    /// take and give it.
    pub(crate) fn of(params: &'a StartParams) -> Option<Self> {
        let [shell, flag, text] = params.argv.as_slice() else { return None };
        let language = Language::of(Path::new(shell).file_name()?.to_str()?)?;
        if flag != "-lc" || params.arg0.is_some() {
            return None;
        }
        match &params.shell_snapshot {
            Some(asked)
                if Language::of(&asked.shell.name) == Some(language) && asked.shell.path == *shell =>
            {
                Some(Self { language, shell, scope: &asked.scope_id, text })
            }
            None if params.login_environment.is_some() => Some(Self { language, shell, scope: "", text }),
            _ => None,
        }
    }
}

/// What is remembered. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LoginStates(Arc<Mutex<HashMap<Key, Arc<Entry>>>>);

/// Shell, scope, environment and sandbox. A digest, since nothing else is needed of them.
type Key = [u8; 32];

#[derive(Debug, Default)]
struct Entry(Mutex<Option<State>>);

/// One state.
#[derive(Debug)]
struct State {
    /// The script; none if what the shell does can't be remembered, so that it is not tried at each command.
    script: Option<Remembered>,
    files: Stamps,
    made: Instant,
}

/// A script as commands get it.
#[derive(Debug, Clone)]
struct Remembered {
    file: Arc<OwnedFd>,
    /// Whether it changes how a text is read.
    has_aliases: bool,
}

impl State {
    fn is_fresh(&self, limits: &ProcessLimits) -> bool {
        self.made.elapsed() < limits.login_state_time && self.files.are_unchanged()
    }
}

impl LoginStates {
    /// Turns the request's login shell into a command with a remembered state, and gives the file that the command
    /// needs, under the number that its place has for it. None, and the request as it was, where nothing is to be
    /// remembered or can be. Blocks, for as long as a login takes if the state is not known yet.
    pub(super) fn apply(
        &self,
        params: &mut StartParams,
        env: &Variables,
        place: Place<'_>,
        limits: &ProcessLimits,
    ) -> Option<Arc<OwnedFd>> {
        let login = LoginShell::of(params)?;
        let Remembered { file, has_aliases } = self.state(login, env, place, &params.cwd.0, limits)?;
        params.argv = login.language.with_state(login.shell, login.text, place.number(), has_aliases);
        Some(file)
    }

    fn state(
        &self,
        login: LoginShell<'_>,
        env: &Variables,
        place: Place<'_>,
        cwd: &Path,
        limits: &ProcessLimits,
    ) -> Option<Remembered> {
        let env: Vec<_> = env.iter().filter(|(name, _)| !is_passing(name)).cloned().collect();
        // Under a sandbox there may be no other directory to log in at.
        let cwd = if matches!(place, Place::Open) { Path::new("/") } else { cwd };
        let walls = match place {
            Place::Open => Vec::new(),
            Place::Confined { confined, .. } => confined.for_a_look().identity().ok()?,
        };
        let entry = self.entry(key(login, &env, cwd, &walls), limits.login_states);
        // Commands that come at once wait for one login instead of logging in each.
        let mut state = entry.0.lock();
        if !state.as_ref().is_some_and(|state| state.is_fresh(limits)) {
            *state = Some(remember(login, &env, place, cwd, limits));
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

fn key(login: LoginShell<'_>, env: &Variables, cwd: &Path, walls: &[u8]) -> Key {
    use std::os::unix::ffi::OsStrExt as _;
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(login.shell.as_bytes());
    add(login.scope.as_bytes());
    add(cwd.as_os_str().as_bytes());
    add(walls);
    for (name, value) in env {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    digest.finalize().into()
}

/// Logs in once.
fn remember(
    login: LoginShell<'_>,
    env: &Variables,
    place: Place<'_>,
    cwd: &Path,
    limits: &ProcessLimits,
) -> State {
    let made = Instant::now();
    // Before the shell reads them: what changes meanwhile counts as changed.
    let mut files = Stamps::take(login.language, env);
    let script = match capture::state(login, env, place, cwd, limits) {
        Ok(Script { bytes, environment, has_aliases }) => {
            files.add(login.language, &environment);
            sealed(&bytes)
                .map(|file| Remembered { file: Arc::new(file), has_aliases })
                .map_err(|error| error.to_string())
        }
        Err(why) => Err(why),
    };
    let script = script.map_err(|why| tracing::debug!(why, "a login shell's state is not remembered"));
    State { script: script.ok(), files, made }
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
