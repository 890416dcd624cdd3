//! The process that makes connections of a program's packets: confined so that it can open nothing, and ended with its
//! owner.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use codex_children::posix::Streams;
use codex_children::{reap, tree};
use codex_tcp_stack::{Bounds, Given};
use rustix::process::Pid;

use super::start::{self, NotStarted};
use super::task::{Confinement, LauncherTask, Walls, Work};
use super::wire::spare;
use crate::blocking;

/// Its process; dropped, it is ended and reaped.
struct StackProcess(Pid);

/// Starts one behind walls that leave it nothing, on what it is given. Our end of the link to it, and what ends it when it is dropped. Blocks as a start does.
///
/// # Errors
/// The system's, or why it could not be confined.
pub(crate) fn start(
    launcher: &Path,
    walls: Walls,
    given: &Given,
    bounds: Bounds,
) -> io::Result<(OwnedFd, Box<dyn Any + Send>)> {
    let (link, theirs) = codex_tcp_stack::pair()?;
    let (theirs, null) = (spare(theirs)?, start::null()?);
    let task = LauncherTask { confinement: Confinement::Walls(walls), work: Work::Stack };
    let streams = Streams::Each([theirs.as_fd(), null.as_fd(), null.as_fd()]);
    let started = start::start(launcher, &task, streams).map_err(|error| match error {
        NotStarted::System(what, error) => io::Error::other(format!("can't {what}: {error}")),
        NotStarted::Failed(failure) => {
            io::Error::other(format!("can't {}: {}", failure.what, failure.error()))
        }
    })?;
    let pid = started.spawned.pid;
    let process = StackProcess(pid);
    codex_tcp_stack::give(&link, given, bounds)?;
    Ok((link, Box::new(process)))
}

impl Drop for StackProcess {
    fn drop(&mut self) {
        let pid = self.0;
        let _ = tree::kill_group(pid, rustix::process::Signal::KILL);
        match tokio::runtime::Handle::try_current() {
            Ok(_) => blocking::spawn(move || reap::wait_for_killed(pid)).detach(),
            Err(_) => reap::wait_for_killed(pid),
        }
    }
}
