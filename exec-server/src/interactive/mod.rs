//! Works with programs as an agent does: starts one, gets what it printed within a time and a budget, comes back later,
//! writes, interrupts, collects the rest. On any [`Environment`].
//!
//! A task takes everything that a program prints, so no program waits for an agent. Its beginning and its end are kept
//! within [`Bounds`], and what is between is counted. Positions in the output are cursors: who knows the id of a program
//! and a cursor goes on from there, whoever started it.

mod places;
mod program;
mod reading;
#[cfg(test)]
mod tests;
mod transcript;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use reading::{Budget, Reading, Shape, State};

use crate::environment::{CallError, Environment};
use crate::protocol::ProcessId;
use crate::protocol::process::{
    CloseStdinParams, ResizeParams, SignalName, SignalParams, StartParams, TerminateParams, WriteParams,
    WriteStatus,
};
use places::{Place, Places};
use program::Program;
use transcript::Transcript;

/// How much is kept, and for how many.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Programs at once, ended ones included. For one more, an ended one goes: first those whose output was read to its end,
    /// and of those the one that nobody looked at for the longest time. While all run, a start waits for one to end, behind
    /// those that came before it.
    pub programs: usize,
    /// Starts that wait at once; one more is refused.
    pub waiting: usize,
    /// What is kept of the beginning of a program's output, in bytes.
    pub head_bytes: usize,
    /// What is kept of its end, in bytes.
    pub tail_bytes: usize,
    /// How long a reading waits for the rest of the output of a program that has ended; then it says that it is not complete.
    pub linger: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            programs: 64,
            waiting: 1024,
            head_bytes: 1 << 20,
            tail_bytes: 15 << 20,
            linger: Duration::from_millis(250),
        }
    }
}

/// What a reading waits for, and how much it shows.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Where to read from; without it, where the last reading of this program has stopped.
    pub cursor: Option<u64>,
    /// It ends when the program does, when a page is full, or after this.
    pub wait: Duration,
    /// How much is shown.
    pub budget: Budget,
    /// Which part is shown when there is more.
    pub shape: Shape,
}

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InteractiveError {
    /// There is no such program.
    #[error("there is no process {id:?}: it was never started here, or it ended and made room for others")]
    Unknown {
        /// The id that was asked for.
        id: String,
    },
    /// All programs run, and too many starts wait, or this one has waited for too long.
    #[error("{running} programs run already, the most there may be; end one, or wait for one to end")]
    Full {
        /// How many there are.
        running: usize,
    },
    /// It can't be written to.
    #[error("process {id:?} takes no input: {reason}")]
    NoInput {
        /// The process.
        id: ProcessId,
        /// Why, as half a sentence.
        reason: &'static str,
    },
    /// The environment refused, or is gone.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A program's line in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its handle.
    pub process: ProcessId,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whether it runs on a terminal.
    pub tty: bool,
    /// How far it has come.
    pub state: State,
    /// Since its start.
    pub age: Duration,
    /// What it has printed, in bytes.
    pub total_bytes: u64,
    /// What of that was not read, in bytes.
    pub unread_bytes: u64,
}

/// A program that was started for somebody who has yet to look at it: it makes no room for others as long as this is there.
#[derive(Debug)]
pub struct Started {
    /// Its handle.
    pub process: ProcessId,
    _place: Arc<Place>,
}

/// The programs that an agent works with. Clones share them; with the last one those end that still run.
#[derive(Clone)]
pub struct Interactive(Arc<Shared>);

struct Shared {
    environment: Environment,
    bounds: Bounds,
    places: Places,
    programs: Mutex<HashMap<ProcessId, Arc<Program>>>,
    looks: AtomicU64,
}

impl std::fmt::Debug for Interactive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interactive").field("bounds", &self.0.bounds).finish_non_exhaustive()
    }
}

impl Interactive {
    /// Without programs.
    pub fn new(environment: Environment, bounds: Bounds) -> Self {
        let places = Places::new(bounds.programs, bounds.waiting);
        let (programs, looks) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared { environment, bounds, places, programs, looks }))
    }

    /// Where the programs run.
    pub fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// Starts a program, without waiting for a place; its id, the handle of everything else. `processId` of the params is
    /// chosen anew.
    ///
    /// # Errors
    /// All places are taken by programs that run, or the environment's refusal.
    pub async fn start(&self, params: StartParams) -> Result<ProcessId, InteractiveError> {
        Ok(self.start_within(Duration::ZERO, params).await?.process)
    }

    /// The same, but waits as long as `patience` for a place. Of those who wait, who came first goes first.
    ///
    /// # Errors
    /// No place came free in time, too many wait, or the environment's refusal.
    pub async fn start_within(
        &self,
        patience: Duration,
        mut params: StartParams,
    ) -> Result<Started, InteractiveError> {
        let place = self.0.places.get(patience).await;
        let place = Arc::new(place.ok_or(InteractiveError::Full { running: self.0.bounds.programs })?);
        // Hard to mistake for one of another server's, or of this one before it was started anew.
        let id = ProcessId::from(uuid::Uuid::new_v4().simple().to_string().split_off(22));
        params.process_id = id.clone();
        let (argv, tty) = (params.argv.clone(), params.tty);
        let events = self.0.environment.processes.follow(params).await?;
        let kept = Transcript::new(self.0.bounds.head_bytes, self.0.bounds.tail_bytes);
        let program = Program::new(id.clone(), argv, tty, events, kept, Arc::clone(&place));
        program.used.store(self.0.look(), Ordering::Relaxed);
        self.0.add(program);
        Ok(Started { process: id, _place: place })
    }

    /// Shows what a program has printed and how far it has come. Dropping it while it waits takes nothing away.
    ///
    /// # Errors
    /// [`InteractiveError::Unknown`].
    pub async fn read(&self, id: &str, ask: &Ask) -> Result<Reading, InteractiveError> {
        let program = self.0.get(id)?;
        Ok(program.read(ask, self.0.bounds.linger).await)
    }

    /// Writes to a program's terminal or stdin. Waits as long as the server's queue for it is full.
    ///
    /// # Errors
    /// An unknown program, one that has no input or has ended, or the environment's refusal.
    pub async fn write(&self, id: &str, bytes: Vec<u8>) -> Result<(), InteractiveError> {
        let program = self.0.get(id)?;
        let refuse = |reason| Err(InteractiveError::NoInput { id: program.id.clone(), reason });
        if program.state() != State::Running {
            return refuse("it has ended");
        }
        let params = WriteParams {
            process_id: program.id.clone(),
            chunk: bytes.into(),
            write_id: Some(program.next_write()),
            eof: false,
            session_id: None,
            attachment_id: None,
        };
        match self.0.environment.processes.write(params).await?.status {
            WriteStatus::Accepted => Ok(()),
            WriteStatus::TakenOver => refuse("another client writes to it now"),
            WriteStatus::StdinClosed => refuse("it was started without a terminal and without an open stdin"),
            WriteStatus::UnknownProcess => refuse("it has ended"),
            WriteStatus::Starting => refuse("it has not started yet"),
        }
    }

    /// Ends a program's stdin behind what was written.
    ///
    /// # Errors
    /// An unknown program, or the environment's refusal.
    pub async fn close_stdin(&self, id: &str) -> Result<(), InteractiveError> {
        let process_id = self.0.get(id)?.id.clone();
        self.0.environment.processes.close_stdin(CloseStdinParams { process_id, session_id: None }).await?;
        Ok(())
    }

    /// Sends a signal to a program's process group; for one that has ended, nothing happens.
    ///
    /// # Errors
    /// An unknown program, or the environment's refusal.
    pub async fn signal(&self, id: &str, signal: SignalName) -> Result<(), InteractiveError> {
        let process_id = self.0.get(id)?.id.clone();
        self.0.environment.processes.signal(SignalParams { process_id, signal, session_id: None }).await?;
        Ok(())
    }

    /// Ends a program and its tree; by SIGTERM first, where a time for that is given. True if it ran.
    ///
    /// # Errors
    /// An unknown program, or the environment's refusal.
    pub async fn terminate(&self, id: &str, grace: Option<Duration>) -> Result<bool, InteractiveError> {
        let process_id = self.0.get(id)?.id.clone();
        let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        Ok(self
            .0
            .environment
            .processes
            .terminate(TerminateParams { process_id, grace_ms, session_id: None })
            .await?
            .running)
    }

    /// Forgets a program and what it printed; one that still runs is ended.
    pub fn forget(&self, id: &str) {
        self.0.programs.lock().remove(id);
    }

    /// Changes the size of a program's terminal.
    ///
    /// # Errors
    /// An unknown program, or the environment's refusal.
    pub async fn resize(&self, id: &str, rows: u16, cols: u16) -> Result<(), InteractiveError> {
        let process_id = self.0.get(id)?.id.clone();
        self.0
            .environment
            .processes
            .resize(ResizeParams { process_id, rows, cols, session_id: None })
            .await?;
        Ok(())
    }

    /// All programs, the youngest first.
    pub fn list(&self) -> Vec<Listed> {
        let mut programs: Vec<_> = self.0.programs.lock().values().cloned().collect();
        programs.sort_by_key(|program| std::cmp::Reverse(program.since));
        programs.iter().map(|program| program.listed()).collect()
    }

    /// One program's line in the list. Where its next reading begins stays as it is.
    ///
    /// # Errors
    /// [`InteractiveError::Unknown`].
    pub fn listed(&self, id: &str) -> Result<Listed, InteractiveError> {
        Ok(self.0.get(id)?.listed())
    }

    /// Whether a program of this id is known here.
    pub fn knows(&self, id: &str) -> bool {
        self.0.programs.lock().contains_key(id)
    }
}

impl Shared {
    fn look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn get(&self, id: &str) -> Result<Arc<Program>, InteractiveError> {
        let program = self.programs.lock().get(id).cloned();
        let program =
            program.ok_or_else(|| InteractiveError::Unknown { id: id.chars().take(80).collect() })?;
        program.used.store(self.look(), Ordering::Relaxed);
        Ok(program)
    }

    /// Adds a program; an ended one may have to make room. There is one then: of all places one is the new program's, so
    /// fewer than all are those of other programs that run.
    fn add(&self, program: Program) {
        let mut programs = self.programs.lock();
        if programs.len() >= self.bounds.programs {
            let ended = programs.values().filter(|program| program.may_go());
            let first =
                ended.min_by_key(|program| (program.printed().1 > 0, program.used.load(Ordering::Relaxed)));
            if let Some(id) = first.map(|program| program.id.clone()) {
                programs.remove(&id);
            }
        }
        programs.insert(program.id.clone(), Arc::new(program));
    }
}
