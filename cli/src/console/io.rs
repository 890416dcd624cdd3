//! Our own stdin, stdout and stderr, byte-exact, on threads that never keep the command alive.

use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::isatty;
use tokio::sync::{mpsc, oneshot};

/// Size of one read of stdin. Chosen for speed.
const READ_BYTES: usize = 64 << 10;
/// Chunks of input on their way from a thread; then it waits.
const QUEUED_INPUT: usize = 4;
/// Chunks of output on their way to a thread; then they are not received. Enough for the two not to wake each other for
/// each one of a flood.
const QUEUED_OUTPUT: usize = 32;

/// Says one sentence to the user on stderr, as this command.
pub(crate) fn say(command: &str, sentence: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "codex exec-server {command}: {sentence}");
}

/// Chunks of our stdin, read on a thread of its own.
pub(crate) struct Input(mpsc::Receiver<io::Result<Vec<u8>>>);

impl Input {
    /// Reads on a thread of its own: a read that never returns ends with the command.
    pub(crate) fn start() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED_INPUT);
        std::thread::spawn(move || read_stdin(&sender));
        Self(receiver)
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// Stdin can't be read, a directory for example.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.0.recv().await.transpose()
    }
}

fn read_stdin(sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let stdin = rustix::stdio::stdin();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.blocking_send(Ok(bytes)).is_err() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(stdin, PollFlags::IN),
            // Closed, or its terminal is gone: that is an end.
            Err(Errno::BADF) => return,
            Err(Errno::IO) if rustix::termios::isatty(stdin) => return,
            Err(error) => {
                let _ = sender.blocking_send(Err(error.into()));
                return;
            }
        }
    }
}

/// Where a program's output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    Stdout,
    Stderr,
}

/// Why output was not written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// Nobody reads our stdout any more.
    NobodyReads,
    /// The operating system refused.
    Failed { what: &'static str, error: std::io::Error },
}

/// A place in the queue for one chunk.
pub(crate) type Room = mpsc::OwnedPermit<(Out, Vec<u8>)>;

/// Our stdout and stderr, written in the order of arrival.
pub(crate) struct Output(mpsc::Sender<(Out, Vec<u8>)>);

/// What has become of the output.
pub(crate) struct Outcome(oneshot::Receiver<Result<(), Unwritten>>);

impl Output {
    /// Writes on a thread of its own, so that a full pipe stops neither signals nor the connection.
    pub(crate) fn start() -> (Self, Outcome) {
        let (sender, receiver) = mpsc::channel(QUEUED_OUTPUT);
        let (tell, done) = oneshot::channel();
        // Nobody asks any more when the command was aborted.
        std::thread::spawn(move || tell.send(write_out(receiver)));
        (Self(sender), Outcome(done))
    }

    /// Waits for room for one chunk; none when output can't be written any more. Cancel-safe.
    pub(crate) async fn room(&self) -> Option<Room> {
        self.0.clone().reserve_owned().await.ok()
    }

    /// Whether writing is behind by all that may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.0.capacity() == 0
    }

    /// Waits until all is written.
    pub(crate) async fn finish(self, outcome: Outcome) -> Result<(), Unwritten> {
        drop(self.0);
        outcome.0.await.unwrap_or(Err(Unwritten::NobodyReads))
    }
}

impl Outcome {
    /// Waits until output can't be written any more. Cancel-safe; not to be asked again once it has answered.
    pub(crate) async fn failure(&mut self) -> Unwritten {
        match (&mut self.0).await {
            Ok(Err(unwritten)) => unwritten,
            // As long as there is an `Output`, the thread ends only with a reason.
            Ok(Ok(())) | Err(_) => Unwritten::NobodyReads,
        }
    }
}

/// A closed stderr loses only what was for it.
fn write_out(mut receiver: mpsc::Receiver<(Out, Vec<u8>)>) -> Result<(), Unwritten> {
    let mut stderr_open = true;
    let mut chunks = Vec::new();
    // All places at once: a waiting reader is woken only when there are many.
    while receiver.blocking_recv_many(&mut chunks, QUEUED_OUTPUT) > 0 {
        for (out, bytes) in chunks.drain(..) {
            let failed = |what| move |error: Errno| Unwritten::Failed { what, error: error.into() };
            match out {
                Out::Stdout if crate::closed_stdout::is_closed() => {
                    return Err(Unwritten::Failed {
                        what: "stdout",
                        error: std::io::Error::other("it is closed"),
                    });
                }
                Out::Stdout => match write_all(rustix::stdio::stdout(), &bytes) {
                    Err(Errno::PIPE) => return Err(Unwritten::NobodyReads),
                    written => written.map_err(failed("stdout"))?,
                },
                Out::Stderr if stderr_open => match write_all(rustix::stdio::stderr(), &bytes) {
                    Err(Errno::PIPE) => stderr_open = false,
                    written => written.map_err(failed("stderr"))?,
                },
                Out::Stderr => {}
            }
        }
    }
    Ok(())
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(fd, PollFlags::OUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells when nobody reads our stdout any more, also while nothing is written.
pub(crate) struct Watch(Option<oneshot::Receiver<()>>);

impl Watch {
    /// Watches on a thread of its own. A terminal is not watched: that it is gone is told by SIGHUP.
    pub(crate) fn start() -> Self {
        let (tell, gone) = oneshot::channel();
        if !isatty(rustix::stdio::stdout()) {
            std::thread::spawn(move || {
                let mut stdout = [PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::empty())];
                while matches!(poll(&mut stdout, None), Err(Errno::INTR)) {}
                if stdout.iter().any(|stdout| stdout.revents().contains(PollFlags::ERR)) {
                    // Nobody asks any more once the command ends.
                    let _ = tell.send(());
                }
            });
        }
        Self(Some(gone))
    }

    /// Waits for that. Cancel-safe.
    pub(crate) async fn gone(&mut self) {
        if let Some(gone) = &mut self.0
            && gone.await.is_ok()
        {
            return;
        }
        // The watch has ended without news.
        self.0 = None;
        std::future::pending().await
    }
}

fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) {
    // An interrupted wait is followed by another try.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None);
}
