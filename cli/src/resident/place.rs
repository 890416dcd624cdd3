//! Where the server that stays has its socket, its log and its lock.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// The longest path of a Unix socket, its final zero aside. See unix(7). Fixed by the kernel.
const LONGEST_SOCKET: usize = 107;
/// Whoever holds the lock starts a server, or ends one. A safeguard, far from any real use.
const LONGEST_LOCKED: Duration = Duration::from_secs(60);
/// Our own pace: nothing outside depends on it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The files of the server that stays. A directory may be shared by several machines, so their names have the machine's.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    machine: String,
}

impl Place {
    pub(super) fn new(directory: &Path) -> anyhow::Result<Self> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let plain = |letter: &char| letter.is_ascii_alphanumeric() || "-_.".contains(*letter);
        let place = Self { directory: directory.to_owned(), machine: name.chars().filter(plain).collect() };
        let length = place.socket().as_os_str().len();
        if !directory.is_absolute() || length > LONGEST_SOCKET {
            bail!(
                "{} can't be the path of a socket: it has to be absolute, and of at most {LONGEST_SOCKET} bytes; name a shorter \
                 directory with --remote-dir",
                place.socket().display()
            );
        }
        Ok(place)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("resident-{}.{ending}", self.machine))
    }

    /// Where the server listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// What the server says on stderr.
    pub(super) fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// Waits until nobody else starts or ends the server here; until the file is dropped, nobody does.
    pub(super) async fn lock(&self) -> anyhow::Result<File> {
        let path = self.file("lock");
        let cannot = || format!("can't lock {}", path.display());
        let mut options = OpenOptions::new();
        let file =
            options.write(true).create(true).truncate(false).mode(0o600).open(&path).with_context(cannot)?;
        let deadline = Instant::now() + LONGEST_LOCKED;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(error) => return Err(error).with_context(cannot),
            }
        }
    }
}
