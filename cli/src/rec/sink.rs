//! Where a recording goes: a file of its own, or stdout.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::console::io::{Out, Outcome, Output, Unwritten};

/// Takes whole lines.
pub(super) enum Sink {
    File { file: File, failed: Option<std::io::Error> },
    Stdout { output: Output, outcome: Outcome },
}

impl Sink {
    /// Makes the file, which only its owner may read; `-` is stdout.
    ///
    /// # Errors
    /// A sentence: it is there already, or can't be made.
    pub(super) fn open(path: &Path, replace: bool) -> Result<Self, String> {
        if path == Path::new("-") {
            let (output, outcome) = Output::start();
            return Ok(Self::Stdout { output, outcome });
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let options = if replace { options.create(true).truncate(true) } else { options.create_new(true) };
        options.open(path).map(|file| Self::File { file, failed: None }).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                format!("{} is there already; --force replaces it", path.display())
            }
            _ => format!("can't make {}: {error}", path.display()),
        })
    }

    /// Writes lines; false if no more can be written. What was written stays whole when this command is killed.
    pub(super) async fn put(&mut self, lines: String) -> bool {
        match self {
            Self::File { file, failed } => {
                *failed = file.write_all(lines.as_bytes()).err();
                failed.is_none()
            }
            Self::Stdout { output, .. } => match output.room().await {
                Some(room) => {
                    room.send((Out::Stdout, lines.into_bytes()));
                    true
                }
                None => false,
            },
        }
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) -> Result<(), Unwritten> {
        match self {
            Self::File { failed: Some(error), .. } => Err(Unwritten::Failed { what: "the recording", error }),
            Self::File { failed: None, .. } => Ok(()),
            Self::Stdout { output, outcome } => output.finish(outcome).await,
        }
    }
}
