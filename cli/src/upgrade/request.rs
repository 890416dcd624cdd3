//! What is asked of a keeper, as files that only its user can have written.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::process::Pid;

/// How long the keeper's answer is waited for: longer than it takes for a server that does not come up. Our own pace: nothing
/// outside depends on it.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest path. See limits.h. Fixed by the kernel.
const LONGEST_PATH: u64 = 4096;
/// The longest answer (bytes): what a pipe takes at once. Fixed by the kernel.
const LONGEST_ANSWER: usize = 4096;
/// The answer, unless it is a reason.
const DONE: &str = "done";

/// A request that waits for its answer; dropped, it is withdrawn.
pub(super) struct Request {
    directory: PathBuf,
    answer: File,
}

/// A request, as the keeper has found it.
pub(crate) struct Taken {
    /// The binary that was named.
    pub(crate) binary: Option<PathBuf>,
    answer: File,
}

fn directory(state: &Path, keeper: Pid) -> PathBuf {
    state.join("upgrades").join(keeper.as_raw_pid().to_string())
}

impl Request {
    /// Writes one.
    ///
    /// # Errors
    /// It can't be written, or another one stands there.
    pub(super) fn write(state: &Path, keeper: Pid, binary: Option<&Path>) -> anyhow::Result<Self> {
        let directory = directory(state, keeper);
        let cannot = || format!("can't write the request into {}", directory.display());
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(state.join("upgrades")).with_context(cannot)?;
        // What is left of one that was killed is its own keeper's no more.
        let _ = std::fs::remove_dir_all(&directory);
        builder.recursive(false).create(&directory).with_context(cannot)?;
        let pipe = directory.join("answer");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .with_context(cannot)?;
        let flags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW);
        let answer = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&pipe);
        let request = Self { answer: answer.with_context(cannot)?, directory: directory.clone() };
        let binary = binary.unwrap_or_else(|| Path::new("")).as_os_str().as_bytes();
        std::fs::write(directory.join("binary"), binary).with_context(cannot)?;
        Ok(request)
    }

    /// Waits for the answer: the reason, where nothing came of it.
    ///
    /// # Errors
    /// None came.
    pub(super) fn answer(mut self) -> anyhow::Result<Result<(), String>> {
        let time = Timespec::try_from(PATIENCE).context("the time to wait")?;
        let mut watched = [PollFd::new(&self.answer, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut watched, Some(&time)))? == 0 {
            bail!(
                "the keeper gave no answer for {} s; it looks for requests below its own state directory, which may not be the \
                 one of this command ({})",
                PATIENCE.as_secs(),
                self.directory.display()
            );
        }
        // It is written at once.
        let mut text = [0; LONGEST_ANSWER];
        let length = self.answer.read(&mut text).context("can't read the keeper's answer")?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        Ok(if text == DONE { Ok(()) } else { Err(text.into_owned()) })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The request for this process, if there is one that nobody but its user can have written.
pub(crate) fn take(state: &Path) -> Option<Taken> {
    let directory = directory(state, rustix::process::getpid());
    let us = rustix::process::geteuid().as_raw();
    let found = std::fs::symlink_metadata(&directory).ok()?;
    if !found.is_dir() || found.uid() != us || found.mode() & 0o077 != 0 {
        return None;
    }
    let open = |name: &str, options: &mut OpenOptions, flags: OFlags| {
        let flags = flags.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).bits().cast_signed();
        options.custom_flags(flags).open(directory.join(name)).ok()
    };
    let answer = open("answer", OpenOptions::new().write(true), OFlags::empty())?;
    let mut path = Vec::new();
    let binary = open("binary", OpenOptions::new().read(true), OFlags::empty())?;
    binary.take(LONGEST_PATH).read_to_end(&mut path).ok()?;
    let binary = PathBuf::from(OsStr::from_bytes(&path));
    Some(Taken { binary: Some(binary).filter(|path| path.is_absolute()), answer })
}

impl Taken {
    /// Tells the one who asked.
    pub(crate) fn tell(mut self, outcome: Result<(), String>) {
        let text = outcome.err().unwrap_or_else(|| DONE.to_owned());
        // Who no longer waits need not know.
        let _ = self.answer.write_all(text.as_bytes());
    }
}
