//! What a keeper does: it starts a server, waits, and starts the next one.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal};

use super::above;
use super::below::{Below, Said};
use super::deaths::{Death, Deaths};
use super::server::Server;
use super::shelf::Shelf;
use super::socket::{Buffer, Socket};
use super::store::{Bell, Store};
use super::upgrade::{Answer, Program, Refusal, Trial, Upgrade};
use super::wire::Schema;
use crate::child_mark::{self, Mark};
use crate::ending::{Ending, How};
use crate::reap;
use crate::signals::{self, KeeperSignals};
use crate::{descriptor_limit, guard, procfs};

/// How long the keeper waits for the ends of programs when no server follows.
/// A safeguard, far from any real use.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The exit code of a Rust program whose main thread panicked: a death, and no decision to end.
const PANICKED: i32 = 101;
/// What tools show beside the command line, which both processes have.
const KEEPER_NAME: &CStr = c"codex-keeper";

/// Which of the two processes this is that [`keep`] made of one.
#[derive(Debug)]
pub enum Kept<T> {
    /// The server, with what the keeper held when it started.
    Server(Server, T),
    /// The keeper, after the server's end: the exit code.
    Over(u8),
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
    /// Something that a server wanted to be kept could not be: it ends with that server.
    NotKept,
}

/// Whom a keeper works for.
pub trait Employer<T> {
    /// Is told what happens.
    fn told(&self, news: News);

    /// Whether this signal asks for an upgrade, and to what. One that does not, and asks for no end either, is nothing.
    fn order(&self, signal: Signal) -> Option<(Program, Answer)>;

    /// What of the thing that is held is handed to another binary.
    fn handed<'h>(&self, held: &'h T) -> Option<BorrowedFd<'h>>;
}

/// Makes this process the keeper of a server, and returns in both: in the server at once, in the keeper after its end. Each
/// server that is started has what is `held`; the keeper drops it as soon as no other server will follow.
///
/// To be called before there is a second thread, and with no signal blocked. A copy of `held` that a fork has made must end
/// nothing when it is dropped.
///
/// # Errors
/// When there is no process or descriptor left.
pub fn keep<T>(held: T, employer: impl Employer<T>) -> io::Result<Kept<T>> {
    let signals = KeeperSignals::block()?;
    let name = rustix::thread::name().ok();
    let me = rustix::process::getpid();
    // The programs of a server that died come to us. Where that can't be had, they come to nobody who waits for them.
    let _ = rustix::process::set_child_subreaper(Some(me));
    // What all servers put into the store takes descriptors here, too.
    let _ = descriptor_limit::raise();
    let mut keeper = Keeper {
        held: Some(held),
        employer,
        signals,
        bell: Bell::new()?,
        buffer: Buffer::default(),
        shelf: Shelf::default(),
        marks: child_mark::Server::own(),
        deaths: Deaths::default(),
        asked: false,
        program: None,
        trial: None,
        written: None,
    };
    let mut follows = false;
    loop {
        // Before there is a server, so that whoever sees one can tell them apart. It fails for no name.
        let _ = rustix::thread::set_name(KEEPER_NAME);
        let below = match keeper.start_program(follows) {
            Some(below) => below,
            None => {
                let (ours, theirs) = Socket::pair()?;
                let bell = keeper.bell.try_clone()?;
                // SAFETY: there is no other thread, whose locks the child could miss.
                match unsafe { libc::fork() } {
                    0 => {
                        signals::unblock();
                        let _ = name.as_deref().map(rustix::thread::set_name);
                        // The keeper's terminal sends its signals to the keeper, which hands them on.
                        let _ = rustix::process::setsid();
                        let store = Store::new(theirs, bell);
                        above::set(me, store.clone());
                        let held = keeper.held.take().ok_or(Errno::INVAL)?;
                        return Ok(Kept::Server(Server::new(store, follows), held));
                    }
                    pid if pid < 0 => return Err(io::Error::last_os_error()),
                    pid => Below::new(Pid::from_raw(pid).ok_or(Errno::INVAL)?, ours, follows),
                }
            }
        };
        keeper.employer.told(News::Waits);
        let end = keeper.watch(below)?;
        if let Some(code) = keeper.exit_code(end) {
            keeper.end_programs(end);
            return Ok(Kept::Over(code));
        }
        let death = keeper.deaths.count(end.signal());
        if death.is_one_too_many() {
            keeper.employer.told(News::GaveUp(death));
            keeper.end_programs(end);
            return Ok(Kept::Over(1));
        }
        keeper.employer.told(News::Died(death));
        keeper.end_unregistered();
        if let Some(code) = keeper.pause(death.pause())? {
            keeper.end_programs(end);
            return Ok(Kept::Over(code));
        }
        follows = true;
    }
}

struct Keeper<T, E> {
    /// None once the server is to end and none is to follow.
    held: Option<T>,
    employer: E,
    signals: KeeperSignals,
    bell: Bell,
    buffer: Buffer,
    shelf: Shelf,
    /// What all servers' marks share.
    marks: child_mark::Server,
    deaths: Deaths,
    /// Somebody asked for the end.
    asked: bool,
    /// What servers are started from since an upgrade.
    program: Option<Program>,
    /// The server is a new one, and has not shown yet that it serves.
    trial: Option<Trial>,
    /// How what is held was written.
    written: Option<Schema>,
}

impl<T, E: Employer<T>> Keeper<T, E> {
    /// Starts what took over last, if that was another binary, and it still can be started.
    fn start_program(&mut self, follows: bool) -> Option<Below> {
        let held = self.held.as_ref().and_then(|held| self.employer.handed(held));
        let started = self.program.as_ref()?.start(&self.bell, held, follows);
        if started.is_err() {
            self.program = None;
        }
        started.ok()
    }

    /// Waits for the end of the server, or of those that take its place, hands signals on, and keeps what it is told to keep.
    fn watch(&mut self, mut below: Below) -> io::Result<Ending> {
        let mut upgrade: Option<Upgrade> = None;
        loop {
            let on_trial = self.trial.as_ref().map(Trial::until);
            let ready = self.wait(Some(&below), upgrade.as_ref(), on_trial)?;
            if ready.bell {
                self.bell.hear();
            }
            for said in below.listen(ready.said, ready.bell, &mut self.shelf, &mut self.buffer) {
                self.server_said(said, &mut below, upgrade.as_ref());
            }
            if let Some(trial) = &mut self.trial {
                trial.look_at_clock(&below);
            }
            if let Some(upgrade) = &mut upgrade {
                let said =
                    upgrade.next.listen(ready.next_said, ready.bell, &mut self.shelf, &mut self.buffer);
                said.into_iter().for_each(|said| upgrade.next_said(said, &below));
                upgrade.look_at_clock();
            }
            while let Some(signal) = self.signals.next()? {
                if signal == Signal::CHILD {
                    if let Some(end) = self.children_ended(&mut below, &mut upgrade)? {
                        return Ok(end);
                    }
                } else if let Some((program, answer)) = self.employer.order(signal) {
                    self.begin_upgrade(program, answer, &mut upgrade);
                } else if signal != signals::UPGRADE {
                    self.asked = true;
                    self.held = None;
                    if let Some(upgrade) = &mut upgrade {
                        upgrade.next.signal(signal);
                    }
                    below.signal(signal);
                }
            }
            below.tell_ends();
        }
    }

    fn server_said(&mut self, said: Said, below: &mut Below, upgrade: Option<&Upgrade>) {
        match said {
            Said::Hello(schema) => {
                below.schema = Some(schema);
                if below.follows {
                    if self.written.is_some_and(|written| !schema.reads(&written)) {
                        // Nobody can go on with it.
                        guard::end_programs(self.marks, &self.shelf.left());
                        self.shelf.clear();
                    }
                    // Whether it was understood, its next word tells, or its end.
                    let _ = self.shelf.hand_over(self.marks, &below.socket);
                }
                self.written = Some(schema);
            }
            Said::Ending => {
                self.asked = true;
                self.held = None;
            }
            Said::Suspended => {
                if let Some(upgrade) = upgrade {
                    upgrade.suspended(below);
                }
            }
            Said::NotKept => self.employer.told(News::NotKept),
            Said::Serving => {
                if let Some(trial) = self.trial.take() {
                    self.program = Some(trial.done());
                }
            }
            Said::Foreign(_) => {}
        }
    }

    fn begin_upgrade(&mut self, program: Program, answer: Answer, upgrade: &mut Option<Upgrade>) {
        if upgrade.is_some() || self.trial.is_some() || self.asked {
            answer(Err(Refusal::Busy));
            return;
        }
        let held = self.held.as_ref().and_then(|held| self.employer.handed(held));
        match program.start(&self.bell, held, true) {
            Ok(next) => *upgrade = Some(Upgrade::new(next, program, answer)),
            Err(error) => answer(Err(Refusal::NotStarted(error))),
        }
    }

    /// Waits for children that have ended. The server's end, if nobody is in its place. A child that is no server is a
    /// program of one that died or left, an orphan, or one that this process got as the first of its PID namespace.
    fn children_ended(
        &mut self,
        below: &mut Below,
        upgrade: &mut Option<Upgrade>,
    ) -> io::Result<Option<Ending>> {
        let mut server = None;
        while let Some((pid, end)) = reap::reap_any()? {
            if pid == below.pid {
                server = Some(end);
            } else if upgrade.as_ref().is_some_and(|upgrade| upgrade.next.pid == pid) {
                if let Some(upgrade) = upgrade.take() {
                    upgrade.over(below);
                }
            } else if let Some(key) = self.shelf.ended(pid, end) {
                below.owe(key, end);
            }
        }
        let Some(end) = server else { return Ok(None) };
        let (said, _) = below.hear(&mut self.shelf, &mut self.buffer);
        said.into_iter().for_each(|said| self.server_said(said, below, None));
        if let Some(trial) = self.trial.take() {
            trial.failed();
        }
        let Some((next, trial)) = upgrade.take().and_then(Upgrade::succeed) else { return Ok(Some(end)) };
        *below = next;
        self.trial = Some(trial);
        self.end_unregistered();
        self.reap_orphans()?;
        self.written = below.schema;
        // Whether it was understood, its next word tells, or its end.
        let _ = self.shelf.hand_over(self.marks, &below.socket);
        Ok(None)
    }

    /// Waits for a signal or a word of a server, or until the time is up.
    fn wait(
        &self,
        below: Option<&Below>,
        upgrade: Option<&Upgrade>,
        until: Option<Instant>,
    ) -> io::Result<Ready> {
        let servers = [below, upgrade.map(|upgrade| &upgrade.next)];
        let rests = servers.iter().filter_map(|server| server.and_then(Below::rests_until));
        let until = rests.chain(upgrade.map(Upgrade::until)).chain(until).min();
        let time = until.map(|until| {
            let time = until.saturating_duration_since(Instant::now());
            Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
        });
        let mut watched =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.bell, PollFlags::IN)];
        let places = servers.map(|server| {
            let server = server.filter(|server| !server.wanted().is_empty())?;
            watched.push(PollFd::from_borrowed_fd(server.socket.as_fd(), server.wanted()));
            Some(watched.len() - 1)
        });
        retry_on_intr(|| poll(&mut watched, time.as_ref()))?;
        let ready = |place: usize| watched.get(place).is_some_and(|fd| !fd.revents().is_empty());
        let [said, next_said] = places.map(|place| place.is_some_and(ready));
        Ok(Ready { bell: ready(1), said, next_said })
    }

    /// The exit code, unless the server died and another is to follow.
    fn exit_code(&self, end: Ending) -> Option<u8> {
        match end.how {
            How::Exited(PANICKED) if !self.asked => None,
            How::Exited(code) => Some(u8::try_from(code).unwrap_or(u8::MAX)),
            How::Killed(signal) if self.asked => Some(code_of(signal)),
            How::Killed(_) => None,
        }
    }

    /// Waits before the next start, the longer the more have died lately. The exit code if none is to follow.
    fn pause(&mut self, time: Duration) -> io::Result<Option<u8>> {
        let until = Instant::now() + time;
        loop {
            self.reap_orphans()?;
            if Instant::now() >= until {
                return Ok(None);
            }
            self.wait(None, None, Some(until))?;
            self.bell.hear();
            while let Some(signal) = self.signals.next()? {
                if signal != Signal::CHILD && signal != signals::UPGRADE {
                    return Ok(Some(code_of(signal.as_raw())));
                }
            }
        }
    }

    /// Waits for what has ended while there is no server.
    fn reap_orphans(&mut self) -> io::Result<()> {
        while let Some((pid, end)) = reap::reap_any()? {
            self.shelf.ended(pid, end);
        }
        self.shelf.settle();
        Ok(())
    }

    /// Ends what a server that died was just starting, and whatever else of its own nobody will go on with.
    fn end_unregistered(&mut self) {
        let marks = self.marks;
        let processes = procfs::processes().into_iter().flatten();
        let running: Vec<Mark> = processes.filter_map(|pid| marks.mark_of(pid)).collect();
        self.shelf.retain_left(|mark| running.contains(&mark));
        let spared = self.shelf.spared();
        if running.iter().any(|mark| !spared.contains(&mark.number())) {
            guard::end_programs(marks, &spared);
        }
    }

    /// Ends the programs that a server has left behind, when none is to follow. One that ended in order left none.
    fn end_programs(&mut self, end: Ending) {
        if !matches!(end.how, How::Killed(_) | How::Exited(PANICKED)) && !self.shelf.has_running() {
            return;
        }
        guard::end_programs(self.marks, &self.shelf.left());
        let until = Instant::now() + LAST_WAIT;
        while self.reap_orphans().is_ok() && self.shelf.has_running() && Instant::now() < until {
            if self.wait(None, None, Some(until)).is_err() {
                break;
            }
            while let Ok(Some(_)) = self.signals.next() {}
            self.bell.hear();
        }
    }
}

/// What can be looked at.
struct Ready {
    bell: bool,
    said: bool,
    next_said: bool,
}

/// The exit code that stands for a signal, as shells have it.
fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
