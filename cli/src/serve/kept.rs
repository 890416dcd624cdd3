//! How a server gets a keeper above it, or does without.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use codex_children::keeper::{self, Answer, Employer, Entry, Kept, News, Program, Refusal, Schema};
use codex_children::signals::{self, ChildSignals};
use codex_exec_server::transport::Bound;
use rustix::process::Signal;

use crate::command_line::words;
use crate::setup::{or_root, state_directory};
use crate::{resident_memory, upgrade};

/// Has a keeper hold this from now on, if one is wanted: then this is two processes, of which the keeper comes back with the
/// exit code when the server has ended for good.
pub(super) fn below_keeper<T: Held>(
    wanted: bool,
    state: Option<&Path>,
    held: T,
) -> anyhow::Result<ControlFlow<u8, (Option<keeper::Server>, T)>> {
    if !wanted {
        return Ok(ControlFlow::Continue((None, held)));
    }
    let kept = keeper::keep(held, Process::new(state)).context("can't start the server below its keeper")?;
    Ok(match kept {
        Kept::Server(server, held) => ControlFlow::Continue((Some(server), held)),
        Kept::Over(code) => ControlFlow::Break(code),
    })
}

/// What servers write into the keeper's store, and read of it.
const STATE: Schema = Schema { writes: 1, reads_from: 1, features: 0 };

/// The server that this process is, if a keeper has started this binary to take another one's place. To be called once.
pub(super) fn handed_over() -> anyhow::Result<Option<keeper::Server>> {
    let arg0 = std::env::args_os().next();
    keeper::Server::handed_over(arg0.as_deref()).context("what the keeper hands over is not there")
}

/// What a server has of those above it and before it, and of the programs below.
pub(super) struct Below {
    pub(super) keeper: Option<keeper::Server>,
    /// What is left of the servers before this one; nothing for the first.
    pub(super) entries: Vec<Entry>,
    pub(super) children: ChildSignals,
}

impl Below {
    /// Takes over what is left. To be called in the server, before it has a second thread.
    pub(super) fn new(mut keeper: Option<keeper::Server>) -> anyhow::Result<Self> {
        let entries = keeper.as_mut().map(|keeper| keeper.take_over(STATE)).transpose();
        let entries = entries.context("can't take over what the server before this one has left")?;
        Ok(Self { keeper, entries: entries.unwrap_or_default(), children: keep_endings()? })
    }
}

/// What a keeper holds for its servers.
pub(super) trait Held {
    /// What another binary is handed of it.
    fn handed(&self) -> Option<BorrowedFd<'_>>;
}

impl Held for Bound {
    fn handed(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Whoever dials out listens nowhere.
impl Held for () {
    fn handed(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What a keeper asks this program, and tells it.
struct Process {
    /// Where requests for an upgrade are looked for.
    state: Option<PathBuf>,
    /// This program's file, as it was at the start.
    file: Option<PathBuf>,
}

impl Process {
    fn new(state: Option<&Path>) -> Self {
        Self { state: state_directory(state), file: std::env::current_exe().ok() }
    }

    /// This program with the arguments that it was started with, from this file.
    fn again(&self, file: Option<PathBuf>) -> Option<Program> {
        Some(Program {
            file: file.or_else(|| self.file.clone())?,
            arguments: words(std::env::args_os()).into_iter().skip(1).collect(),
            environment: std::env::vars_os().collect(),
            directory: or_root(std::env::current_dir()).ok()?,
        })
    }
}

impl<T: Held> Employer<T> for Process {
    fn told(&self, news: News) {
        tell(news);
    }

    fn order(&self, signal: Signal) -> Option<(Program, Answer)> {
        if signal == keeper::upgrade_signal() {
            let taken = upgrade::take(self.state.as_deref()?)?;
            let program = self.again(taken.binary.clone())?;
            return Some((program, Box::new(|outcome| taken.tell(log(outcome)))));
        }
        // Below a service manager it means what `systemctl reload` says.
        let reloads = signal == Signal::HUP && std::env::var_os("INVOCATION_ID").is_some();
        let answer: Answer = Box::new(|outcome| drop(log(outcome)));
        if reloads { Some((self.again(None)?, answer)) } else { None }
    }

    fn handed<'h>(&self, held: &'h T) -> Option<BorrowedFd<'h>> {
        held.handed()
    }
}

/// Says how an upgrade went.
fn log(outcome: Result<(), Refusal>) -> Result<(), String> {
    match &outcome {
        Ok(()) => tracing::info!("another server has taken over"),
        Err(refusal) => tracing::warn!("no upgrade: {refusal}; the server goes on as it was"),
    }
    outcome.map_err(|refusal| refusal.to_string())
}

fn tell(news: News) {
    match news {
        News::Waits => resident_memory::forget_start(),
        News::Died(death) => tracing::warn!("{death}; it is started again"),
        News::GaveUp(death) => {
            tracing::error!("{death}, the {}th time within a minute; it is not started again", death.lately);
        }
        News::NotKept => {
            tracing::warn!("a program can't be kept beyond the server's death: there is no room for it")
        }
    }
}

/// The ends of programs, as something to read. To be called in the server, before it has a second thread.
pub(super) fn keep_endings() -> anyhow::Result<ChildSignals> {
    signals::keep_endings().context("can't have the ends of programs reported")
}
