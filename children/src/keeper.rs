//! The process above a server: it holds what must outlive the server, and starts it again when it dies.
//!
//! Whoever starts the program is the keeper from then on; the server is its child, made by a fork while there is one thread
//! and nothing but a parsed command line. So a server that is started again begins where the first one did, with the same
//! flags, settings and listening socket, and reads nothing anew. The keeper itself does nothing but wait: it has no event
//! loop, reads no message of a client, and knows no secret that a file holds.
//!
//! Signals that ask for an end are handed on, and the server's exit code is the keeper's. If the keeper dies, the server sees
//! it ([`Server::died`]) and ends in order.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::register;
use super::signals::{self, KeeperSignals};

/// The process above this one, if it is a keeper.
static KEEPER: OnceLock<Pid> = OnceLock::new();

/// So many deaths within [`LATELY`] are too many.
/// A safeguard, far from any real use.
const TOO_MANY: usize = 5;
/// For how long a death counts.
/// A safeguard, far from any real use.
const LATELY: Duration = Duration::from_secs(60);
/// How long the start after a second death waits; twice as long after each that follows. Our own pace: nothing outside
/// depends on it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The exit code of a Rust program whose main thread panicked: a death, and no decision to end.
const PANICKED: i32 = 101;
/// What tools show beside the command line, which both processes have.
const KEEPER_NAME: &CStr = c"codex-keeper";
/// What a server says when it ends on purpose.
const ENDING: u8 = b'E';

/// Which of the two processes this is that [`keep`] made of one.
#[derive(Debug)]
pub enum Kept<T> {
    /// The server, with what the keeper held when it started.
    Server(Server, T),
    /// The keeper, after the server's end: the exit code.
    Over(u8),
}

/// What a server has of its keeper.
#[derive(Debug)]
pub struct Server {
    keeper: OwnedFd,
    watched: Option<AsyncFd<OwnedFd>>,
    restarted: bool,
}

impl Server {
    /// Whether a server before this one died.
    #[must_use]
    pub fn is_restarted(&self) -> bool {
        self.restarted
    }

    /// Has the keeper let go of what it holds: this server is about to end, and none is to follow.
    pub fn end(&self) {
        // One that no longer reads can't be helped.
        let _ = send(&self.keeper, &[ENDING], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Waits for the keeper's death. Cancel-safe; in a tokio runtime only.
    ///
    /// # Errors
    /// When the event loop can't watch another descriptor.
    pub async fn died(&mut self) -> io::Result<()> {
        let watched = match self.watched.take() {
            Some(watched) => watched,
            None => register(self.keeper.try_clone()?, Interest::READABLE)?,
        };
        let watched = self.watched.insert(watched);
        let read = |keeper: &OwnedFd| match recv(keeper, &mut [0_u8; 1][..], RecvFlags::DONTWAIT) {
            // It says nothing, so what can be read is the end.
            Ok(_) | Err(Errno::CONNRESET) => Ok(()),
            Err(error) => Err(error.into()),
        };
        watched.async_io(Interest::READABLE, read).await
    }
}

/// The keeper of this process, if it has one. Nobody else is its parent.
pub(super) fn pid() -> Option<Pid> {
    KEEPER.get().copied()
}

/// Whether this process is a server with a keeper above it.
#[must_use]
pub fn is_above() -> bool {
    KEEPER.get().is_some()
}

/// What a keeper has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A server runs, and this process has nothing to do from now on but to wait.
    Waits,
    /// The server died, and is started again.
    Died(Death),
    /// The server died, and so often within a minute that it is not started again.
    GaveUp(Death),
}

/// How a server died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// The signal that killed it; none for a panic.
    pub signal: Option<i32>,
    /// How many have died within the last minute, this one included.
    pub lately: usize,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => write!(f, "the server was killed by signal {signal}"),
            None => f.write_str("the server stopped in a panic"),
        }
    }
}

/// Makes this process the keeper of a server, and returns in both: in the server at once, in the keeper after its end. Each
/// server that is started has what is `held`; the keeper drops it as soon as no other server will follow.
///
/// To be called before there is a second thread, and with no signal blocked. A copy of `held` that a fork has made must end
/// nothing when it is dropped.
///
/// # Errors
/// When there is no process or descriptor left.
pub fn keep<T>(held: T, told: impl Fn(News)) -> io::Result<Kept<T>> {
    let signals = KeeperSignals::block()?;
    let name = rustix::thread::name().ok();
    let mut keeper = Keeper { held: Some(held), signals, deaths: VecDeque::new(), asked: false };
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let restarted = !keeper.deaths.is_empty();
        let me = rustix::process::getpid();
        // Before there is a server, so that whoever sees one can tell them apart. It fails for no name.
        let _ = rustix::thread::set_name(KEEPER_NAME);
        // SAFETY: there is no other thread, whose locks the child could miss.
        let pid = match unsafe { libc::fork() } {
            0 => {
                signals::unblock();
                let _ = name.as_deref().map(rustix::thread::set_name);
                // The keeper's terminal sends its signals to the keeper, which hands them on.
                let _ = rustix::process::setsid();
                let _ = KEEPER.set(me);
                let held = keeper.held.take().ok_or(Errno::INVAL)?;
                return Ok(Kept::Server(Server { keeper: theirs, watched: None, restarted }, held));
            }
            pid if pid < 0 => return Err(io::Error::last_os_error()),
            pid => Pid::from_raw(pid).ok_or(Errno::INVAL)?,
        };
        drop(theirs);
        told(News::Waits);
        let status = keeper.watch(pid, &ours)?;
        if let Some(code) = keeper.exit_code(status) {
            return Ok(Kept::Over(code));
        }
        let death = keeper.count(status);
        if death.lately >= TOO_MANY {
            told(News::GaveUp(death));
            return Ok(Kept::Over(1));
        }
        told(News::Died(death));
        if let Some(code) = keeper.pause(death)? {
            return Ok(Kept::Over(code));
        }
    }
}

struct Keeper<T> {
    /// None once the server is to end and none is to follow.
    held: Option<T>,
    signals: KeeperSignals,
    /// When servers died, lately.
    deaths: VecDeque<Instant>,
    /// Somebody asked for the end.
    asked: bool,
}

impl<T> Keeper<T> {
    /// Waits for the server's end, and hands signals on meanwhile.
    fn watch(&mut self, server: Pid, said: &OwnedFd) -> io::Result<WaitStatus> {
        let mut listens = true;
        loop {
            let said = listens.then_some(said);
            if self.wait(said, None)? {
                listens = self.hear(said);
            }
            while let Some(signal) = self.signals.next()? {
                if signal == Signal::CHILD {
                    if let Some(status) = reap(server)? {
                        return Ok(status);
                    }
                } else {
                    self.asked = true;
                    self.held = None;
                    // It may have ended this moment, and is then reaped next.
                    let _ = kill_process(server, signal);
                }
            }
        }
    }

    /// Whether the server may have more to say.
    fn hear(&mut self, said: Option<&OwnedFd>) -> bool {
        let mut word = [0; 1];
        match said.map(|said| recv(said, &mut word[..], RecvFlags::DONTWAIT)) {
            Some(Ok((_, 1))) if word == [ENDING] => {
                self.asked = true;
                self.held = None;
                true
            }
            Some(Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR)) => true,
            _ => false,
        }
    }

    /// Waits for a signal or a word of the server, or until the time is up. Whether there is a word.
    fn wait(&self, said: Option<&OwnedFd>, time: Option<Duration>) -> io::Result<bool> {
        let time = time.map(|time| Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }));
        let mut watched = vec![PollFd::new(&self.signals, PollFlags::IN)];
        watched.extend(said.map(|said| PollFd::new(said, PollFlags::IN)));
        retry_on_intr(|| poll(&mut watched, time.as_ref()))?;
        Ok(watched.get(1).is_some_and(|said| !said.revents().is_empty()))
    }

    /// The exit code, unless the server died and another is to follow.
    fn exit_code(&self, status: WaitStatus) -> Option<u8> {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(PANICKED), _) if !self.asked => None,
            (Some(code), _) => Some(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) if self.asked => Some(code_of(signal.unwrap_or_default())),
            _ => None,
        }
    }

    fn count(&mut self, status: WaitStatus) -> Death {
        let now = Instant::now();
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|death| now.duration_since(*death) > LATELY) {
            self.deaths.pop_front();
        }
        Death { signal: status.terminating_signal(), lately: self.deaths.len() }
    }

    /// Waits before the next start, the longer the more have died lately. The exit code if none is to follow.
    fn pause(&mut self, death: Death) -> io::Result<Option<u8>> {
        let Some(doublings) = death.lately.checked_sub(2) else { return Ok(None) };
        let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
        let until = Instant::now() + FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings));
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            self.wait(None, Some(rest))?;
            while let Some(signal) = self.signals.next()? {
                if signal != Signal::CHILD {
                    return Ok(Some(code_of(signal.as_raw())));
                }
            }
        }
        Ok(None)
    }
}

/// The exit code that stands for a signal, as shells have it.
fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// How the server ended, if it has. Every other child is an orphan that came to us when a server died, or that this process
/// got as the first of its PID namespace.
fn reap(server: Pid) -> io::Result<Option<WaitStatus>> {
    loop {
        match retry_on_intr(|| wait(WaitOptions::NOHANG)) {
            Ok(Some((pid, status))) if pid == server => return Ok(Some(status)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
