//! Starts a program through a launcher: what exists is what the launcher sees once it is confined.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use codex_children::posix::Streams;
use codex_children::spawn::{Child, ForegroundChild, Program, SpawnError, connect};
use codex_exec_protocol::process::ProgramLimits;

use super::Confined;
use super::start::{self, NotStarted};
use super::task::{Failure, LauncherTask, Run, Stage, Work};

/// A program, and what it is held to.
#[derive(Debug, Clone, Copy)]
pub struct ConfinedProgram<'a> {
    /// What to start.
    pub program: &'a Program,
    /// The launcher that confines itself and becomes the program.
    pub launcher: &'a Path,
    /// What it is confined to.
    pub confined: &'a Confined,
    /// How much it may use.
    pub limits: &'a ProgramLimits,
    /// The file that the launcher puts itself into a control group by.
    pub group: Option<&'a Path>,
    /// A file that the program finds open as number 4. [`Self::spawn_here`] passes none.
    pub passed: Option<BorrowedFd<'a>>,
}

/// Why a confined program was not started. On the wire all are `-32603` (8.1).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// As without a sandbox.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The sandbox could not be entered.
    #[error("the program was not started, since its sandbox can't be entered: can't {what}: {source}")]
    Sandbox {
        /// What failed.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl ConfinedProgram<'_> {
    /// Starts it, as [`codex_children::spawn::spawn`] does without a sandbox. With it come the listeners that its confinement
    /// has in a network of its own, in order.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left behind.
    pub fn spawn(&self) -> Result<(Child, Vec<OwnedFd>), StartError> {
        let name = self.program.name()?;
        // Looked at before, for the same words as outside.
        self.program.strings()?;
        let task = self.task(self.passed.is_some());
        let mut handed = Vec::new();
        let child = connect(self.program.stdio, |streams| {
            let started = match (&self.confined.spares, streams) {
                (Some(spares), Streams::Each(streams)) => {
                    spares.start(self.launcher, &task, streams, self.passed)
                }
                (_, streams) => start::start_passing(self.launcher, &task, streams, self.passed),
            };
            let started = started.map_err(|error| self.explain(name, error))?;
            handed = started.handed;
            Ok::<_, StartError>(started.spawned)
        })?;
        Ok((child, handed))
    }

    /// Starts it on this process's own stdin, stdout and stderr, as [`codex_children::spawn::spawn_here`] does, with
    /// `outputs` instead of stdout and stderr where there are any, and what its launcher made in a network of its own. Those need numbers from [`super::FIRST_SPARE`] on.
    ///
    /// # Errors
    /// See [`StartError`]. It is refused where one of the three would lead the program out of its sandbox, such as a file
    /// open for writing that the policy does not let be written.
    pub fn spawn_here(
        &self,
        outputs: [Option<OwnedFd>; 2],
    ) -> Result<(ForegroundChild, Vec<OwnedFd>), StartError> {
        let name = self.program.name()?;
        start::start_here(self.launcher, &self.task(false), outputs)
            .map_err(|error| self.explain(name, error))
    }

    fn task(&self, has_passed: bool) -> LauncherTask {
        let Program { argv, arg0, cwd, env, .. } = self.program;
        let run = Run::new(argv, arg0.as_deref(), env, cwd, self.limits, self.group);
        let run = Run { has_passed, ..run };
        LauncherTask { confinement: self.confined.confinement.clone(), work: Work::Run(run) }
    }

    fn explain(&self, name: &OsStr, error: NotStarted) -> StartError {
        match error {
            NotStarted::System(what, source) => SpawnError::system(what, source).into(),
            NotStarted::Failed(failure) => self.explain_report(name, &failure),
        }
    }

    /// What a launcher reports, which has looked by itself.
    fn explain_report(&self, name: &OsStr, failure: &Failure) -> StartError {
        let source = failure.error();
        match failure.stage {
            Stage::Confine => StartError::Sandbox { what: failure.what.clone(), source },
            Stage::Cwd => SpawnError::Cwd { cwd: self.program.cwd.clone(), source }.into(),
            Stage::Find => SpawnError::of_errno(name, source, false).into(),
            Stage::Execute => SpawnError::of_errno(name, source, true).into(),
        }
    }
}
