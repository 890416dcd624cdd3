//! Our own stdin, stdout and stderr, byte-exact, on threads that never keep the command alive.

use std::io::Write as _;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

/// Size of one read of stdin.
const READ_BYTES: usize = 64 << 10;
/// Chunks on their way to or from a thread; then the other side waits.
const QUEUED_CHUNKS: usize = 4;

/// Says one sentence to the user on stderr.
pub(super) fn say(sentence: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "codex exec-server run: {sentence}");
}

/// Our stdin.
pub(super) struct Input(mpsc::Receiver<Vec<u8>>);

impl Input {
    /// Reads on a thread of its own: a read that never returns ends with the command.
    pub(super) fn start() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        std::thread::spawn(move || read_stdin(&sender));
        Self(receiver)
    }

    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }
}

fn read_stdin(sender: &mpsc::Sender<Vec<u8>>) {
    let stdin = rustix::stdio::stdin();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.blocking_send(bytes).is_err() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(stdin, PollFlags::IN),
            // A closed or unreadable stdin is an ended one.
            Err(_) => return,
        }
    }
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    Stdout,
    Stderr,
}

/// A place in the queue for one chunk.
pub(super) type Room = mpsc::OwnedPermit<(Out, Vec<u8>)>;

/// Our stdout and stderr, written in the order of arrival.
pub(super) struct Output {
    sender: mpsc::Sender<(Out, Vec<u8>)>,
    done: oneshot::Receiver<bool>,
}

impl Output {
    /// Writes on a thread of its own, so that a full pipe stops neither signals nor the connection.
    pub(super) fn start() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        let (tell, done) = oneshot::channel();
        // Nobody asks any more when the command was aborted.
        std::thread::spawn(move || tell.send(write_out(receiver)));
        Self { sender, done }
    }

    /// Waits for room for one chunk; none when nobody reads our stdout any more. Cancel-safe.
    pub(super) async fn room(&self) -> Option<Room> {
        self.sender.clone().reserve_owned().await.ok()
    }

    /// Waits until all is written. False when it could not be.
    pub(super) async fn finish(self) -> bool {
        drop(self.sender);
        self.done.await.unwrap_or(false)
    }
}

/// True when everything for stdout was written; a closed stderr loses only what was for it.
fn write_out(mut receiver: mpsc::Receiver<(Out, Vec<u8>)>) -> bool {
    let mut stderr_open = true;
    while let Some((out, bytes)) = receiver.blocking_recv() {
        match out {
            Out::Stdout if !write_all(rustix::stdio::stdout(), &bytes) => return false,
            Out::Stderr if stderr_open => stderr_open = write_all(rustix::stdio::stderr(), &bytes),
            _ => {}
        }
    }
    true
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(fd, PollFlags::OUT),
            Err(_) => return false,
        }
    }
    true
}

fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) {
    // An interrupted wait is followed by another try.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None);
}
