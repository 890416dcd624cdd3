//! `log/codex-login.log` in the home directory: what the login commands did, without codes, tokens or states.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
// The kind of lock that tracing-subscriber makes a writer of.
use std::sync::Mutex;

use rustix::fs::OFlags;
use tracing_subscriber::EnvFilter;

/// Only our own events: those of HTTP libraries may show headers. `RUST_LOG` does not count here.
const FILTER: &str = "off,codex=info,codex_login=info";

/// Sends logs to the file. Without one (no home directory yet, no rights) they are dropped: a log must not keep anybody
/// from signing in. stderr gets none, since what the login commands say there is an interface.
pub(crate) fn start_logging(home: &Path) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .with_writer(Mutex::new(LoginLog { home: home.to_owned(), file: None }))
        .with_ansi(false)
        .try_init();
}

/// The file, opened by the first entry for which there is a home directory: a sign-in that stores nothing must not
/// make one.
struct LoginLog {
    home: PathBuf,
    file: Option<File>,
}

impl LoginLog {
    fn file(&mut self) -> Option<&mut File> {
        if self.file.is_none() && self.home.is_dir() {
            self.file = open(&self.home).ok();
        }
        self.file.as_mut()
    }
}

fn open(home: &Path) -> io::Result<File> {
    let dir = home.join("log");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    // A named pipe that nobody reads must not hold up a sign-in.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(dir.join("codex-login.log"))
}

impl Write for LoginLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = self.file() {
            // A full disk is no reason to fail.
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
