//! Another server takes the place of one that lives.
//!
//! The new one says first what it reads and writes; only when that fits is the old one asked to let its clients go. Then it
//! leaves as one does that died: all that it knows is in the store, or in memory that the store has, at any time. The new one
//! takes that over. If it does not come up, a server of the old kind takes over the same.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Signal;

use super::below::{Below, Said};
use super::socket::Socket;
use super::store::Bell;
use super::wire::{Message, WIRE};
use crate::posix::{ExecArgs, Streams, Strings};
use crate::{platform, signals};

/// How long the new server may take until it serves. Released clients come back for 25 s.
const TIME: Duration = Duration::from_secs(5);
/// The name by which a binary knows that it was started below a keeper (its `argv[0]`).
pub(super) const KEPT: &str = "codex-exec-kept";
/// What it is handed: the socket to its keeper, the bell, and what the keeper holds, in this order from here on.
pub(super) const FIRST_HANDED: i32 = 3;
/// Where another binary finds what the keeper holds for it, if that is a descriptor.
pub const HANDED_LISTENER: i32 = FIRST_HANDED + 2;
/// Descriptors to be handed over have numbers from here on first, so that none is overwritten.
const APART: i32 = 64;

/// The signal that has a keeper look for a request of an upgrade.
#[must_use]
pub fn upgrade_signal() -> Signal {
    signals::UPGRADE
}

/// How another binary is started as a server.
#[derive(Debug, Clone)]
pub struct Program {
    /// The binary.
    pub file: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub directory: PathBuf,
}

/// Who asked for an upgrade is told how it went.
pub type Answer = Box<dyn FnOnce(Result<(), Refusal>)>;

/// Why another server did not take over. The one that runs goes on.
#[derive(Debug)]
pub enum Refusal {
    /// It could not be started.
    NotStarted(io::Error),
    /// It speaks to its keeper in another way.
    Foreign(u16),
    /// It can't read what the running one has written.
    Schema,
    /// It ended before it served.
    Ended,
    /// It did not serve in time.
    Late,
    /// The running one ended meanwhile.
    NothingRuns,
    /// Another one is under way.
    Busy,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "the new server could not be started: {error}"),
            Self::Foreign(wire) => write!(
                f,
                "the new server speaks version {wire} to its keeper, which knows {WIRE}; stop the old one and start the new one"
            ),
            Self::Schema => f.write_str(
                "the new server can't read what the running one has written; stop the old one and start the new one",
            ),
            Self::Ended => f.write_str("the new server ended before it served; its reason is in the server's log"),
            Self::Late => write!(f, "the new server did not serve within {} s", TIME.as_secs()),
            Self::NothingRuns => f.write_str("the running server ended meanwhile"),
            Self::Busy => f.write_str("another upgrade is under way"),
        }
    }
}

/// One that is under way: the new server is started, and the old one serves.
pub(super) struct Upgrade {
    pub(super) next: Below,
    program: Program,
    /// The new one reads what the old one writes, which was asked to let its clients go.
    fits: bool,
    until: Instant,
    answer: Answer,
    /// Why it fails, once that is known: the new server is being killed.
    failed: Option<Refusal>,
}

/// One whose new server has what the old one had, and has to show that it serves.
pub(super) struct Trial {
    pub(super) program: Program,
    until: Instant,
    answer: Answer,
    is_late: bool,
}

impl Upgrade {
    pub(super) fn new(next: Below, program: Program, answer: Answer) -> Self {
        let until = Instant::now() + TIME;
        Self { next, program, fits: false, until, answer, failed: None }
    }

    /// When something has to happen whatever is said.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Goes on with what the new server said.
    pub(super) fn next_said(&mut self, said: Said, old: &Below) {
        match said {
            Said::Hello(schema) if !self.fits => {
                self.next.schema = Some(schema);
                if old.schema.is_some_and(|written| schema.reads(&written)) {
                    old.say(&Message::Suspend);
                    self.fits = true;
                } else {
                    self.fail(Refusal::Schema);
                }
            }
            Said::Foreign(wire) => self.fail(Refusal::Foreign(wire)),
            _ => {}
        }
    }

    /// The old server has let its clients go: it leaves, and nothing of what it holds ends.
    pub(super) fn suspended(&self, old: &Below) {
        if self.fits && self.failed.is_none() {
            old.signal(Signal::KILL);
        }
    }

    /// Does what its time asks for.
    pub(super) fn look_at_clock(&mut self) {
        if Instant::now() >= self.until {
            self.until = Instant::now() + TIME;
            self.fail(Refusal::Late);
        }
    }

    /// Ends the new server; what follows comes with its end.
    pub(super) fn fail(&mut self, refusal: Refusal) {
        self.failed.get_or_insert(refusal);
        self.next.signal(Signal::KILL);
    }

    /// The new server has ended: the old one goes on.
    pub(super) fn over(self, old: &Below) {
        if self.fits {
            old.say(&Message::GoOn);
        }
        (self.answer)(Err(self.failed.unwrap_or(Refusal::Ended)));
    }

    /// The old server has ended. The new one takes its place, if it can.
    pub(super) fn succeed(mut self) -> Option<(Below, Trial)> {
        if !self.fits || self.failed.is_some() {
            self.fail(Refusal::NothingRuns);
            (self.answer)(Err(self.failed.unwrap_or(Refusal::NothingRuns)));
            return None;
        }
        let Self { next, program, answer, .. } = self;
        Some((next, Trial { program, until: Instant::now() + TIME, answer, is_late: false }))
    }
}

impl Trial {
    /// When it has to serve.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Ends a server that does not serve in time.
    pub(super) fn look_at_clock(&mut self, server: &Below) {
        if Instant::now() >= self.until {
            self.until = Instant::now() + TIME;
            self.is_late = true;
            server.signal(Signal::KILL);
        }
    }

    /// It serves: what it was started from is what servers are started from now on.
    pub(super) fn done(self) -> Program {
        (self.answer)(Ok(()));
        self.program
    }

    /// It has ended.
    pub(super) fn failed(self) {
        (self.answer)(Err(if self.is_late { Refusal::Late } else { Refusal::Ended }));
    }
}

impl Program {
    /// Starts it with its end of a socket to its keeper, the bell, and what the keeper holds.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(
        &self,
        bell: &Bell,
        held: Option<BorrowedFd<'_>>,
        follows: bool,
    ) -> io::Result<Below> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (ours, theirs) = Socket::pair()?;
        let apart = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, APART);
        let handed: Vec<OwnedFd> = [Some(theirs.as_fd()), Some(bell.as_fd()), held]
            .into_iter()
            .flatten()
            .map(apart)
            .collect::<Result<_, _>>()?;
        drop(theirs);
        let more: Vec<BorrowedFd<'_>> = handed.iter().map(AsFd::as_fd).collect();
        let (mut argv, mut env) = (Strings::default(), Strings::default());
        argv.push(&[OsStr::new(KEPT)]).map_err(|_| io::ErrorKind::InvalidInput)?;
        for argument in &self.arguments {
            argv.push(&[argument]).map_err(|_| io::ErrorKind::InvalidInput)?;
        }
        for (name, value) in &self.environment {
            env.push(&[name, OsStr::new("="), value]).map_err(|_| io::ErrorKind::InvalidInput)?;
        }
        let file = CString::new(self.file.as_os_str().as_bytes()).map_err(invalid)?;
        let cwd = CString::new(self.directory.as_os_str().as_bytes()).map_err(invalid)?;
        let (stdin, stdout, stderr) =
            (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        let streams = Streams::Each([stdin, stdout, stderr]);
        let args = ExecArgs { file: &file, argv: &argv, env: &env, cwd: &cwd, streams, more: &more };
        let (pid, _) = platform::start(&args)?;
        Ok(Below::new(pid, ours, follows))
    }
}
