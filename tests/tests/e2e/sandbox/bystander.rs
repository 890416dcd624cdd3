//! A bystander: what another program of the machine has, for attempts to get at. Shared memory, semaphores, queues, and
//! sockets with a name.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;

use libc::c_int;

/// Names the bystander's things to the attacker, with colons between: shared memory, messages, semaphores, the named
/// queue, the directory of its sockets.
const BYSTANDER: &str = "CODEX_E2E_BYSTANDER";
/// The type of the message that waits.
pub(crate) const MESSAGE: i64 = 7;

/// Things of the machine that are open to everybody, until this is dropped.
pub(crate) struct Bystander {
    ids: Ids,
    directory: tempfile::TempDir,
    _datagrams: UnixDatagram,
    _streams: UnixListener,
}

/// What an attempt needs to know of them.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    pub(crate) memory: c_int,
    pub(crate) messages: c_int,
    pub(crate) semaphores: c_int,
    pub(crate) queue: CString,
    /// A socket for datagrams.
    pub(crate) datagrams: PathBuf,
    /// A socket that is listened on.
    pub(crate) streams: PathBuf,
}

impl Bystander {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        open_to_all(directory.path(), 0o755);
        let (datagrams, streams) = (directory.path().join("datagrams"), directory.path().join("streams"));
        let (for_datagrams, for_streams) =
            (UnixDatagram::bind(&datagrams).expect("bound"), UnixListener::bind(&streams).expect("bound"));
        open_to_all(&datagrams, 0o777);
        open_to_all(&streams, 0o777);
        let name = directory.path().file_name().expect("a name").to_str().expect("text").replace('.', "");
        let queue = CString::new(format!("/codex-e2e-{name}")).expect("no NUL");
        // SAFETY: plain calls; the message is a number and one byte, as the call reads it.
        let (memory, messages, semaphores) = unsafe {
            let flags = libc::IPC_CREAT | 0o666;
            let messages = libc::msgget(libc::IPC_PRIVATE, flags);
            let message = (MESSAGE, *b"private\0");
            for _ in 0..4 {
                libc::msgsnd(messages, (&raw const message).cast(), 8, libc::IPC_NOWAIT);
            }
            let queue =
                libc::mq_open(queue.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o666, std::ptr::null::<u8>());
            libc::fchmod(queue, 0o666);
            libc::close(queue);
            (
                libc::shmget(libc::IPC_PRIVATE, 4096, flags),
                messages,
                libc::semget(libc::IPC_PRIVATE, 1, flags),
            )
        };
        assert!(memory >= 0 && messages >= 0 && semaphores >= 0, "System V objects can be made");
        let ids = Ids { memory, messages, semaphores, queue, datagrams, streams };
        Self { ids, directory, _datagrams: for_datagrams, _streams: for_streams }
    }

    /// The variable that tells an attacker.
    pub(crate) fn variable(&self) -> String {
        let Ids { memory, messages, semaphores, queue, .. } = &self.ids;
        let (queue, directory) = (queue.to_str().expect("text"), self.directory.path().display());
        format!("{BYSTANDER}={memory}:{messages}:{semaphores}:{queue}:{directory}")
    }
}

impl Ids {
    /// Those of the variable; nobody's where the attempts are only counted.
    pub(crate) fn told() -> Self {
        let told = std::env::var(BYSTANDER).unwrap_or_default();
        let mut parts = told.splitn(5, ':');
        let mut id = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(-1);
        let (memory, messages, semaphores) = (id(), id(), id());
        let queue = CString::new(parts.next().unwrap_or("/none")).expect("no NUL");
        let directory = PathBuf::from(parts.next().unwrap_or("/nowhere"));
        let (datagrams, streams) = (directory.join("datagrams"), directory.join("streams"));
        Self { memory, messages, semaphores, queue, datagrams, streams }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // SAFETY: plain calls on what was made above.
        unsafe {
            libc::shmctl(self.ids.memory, libc::IPC_RMID, std::ptr::null_mut());
            libc::msgctl(self.ids.messages, libc::IPC_RMID, std::ptr::null_mut());
            libc::semctl(self.ids.semaphores, 0, libc::IPC_RMID);
            libc::mq_unlink(self.ids.queue.as_ptr());
        }
    }
}

fn open_to_all(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("modes");
}
