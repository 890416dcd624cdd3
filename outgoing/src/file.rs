//! Reads files that people name, within a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use codex_secret::Secret;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Longest file with a secret, in bytes: a token or a key has a few kilobytes. A safeguard, far from any real use.
pub const SECRET_BYTES: u64 = 64 << 10;

/// The mark of byte order of UTF-8, which says nothing there.
pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// All of a file, wiped after use. It may also be the pipe of a program that hands out a secret.
///
/// # Errors
/// It can't be read, or has more than `longest` bytes.
pub fn read(path: &Path, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_opened(File::open(path)?, longest)
}

/// As [`read`], but a named pipe is refused: opening one waits for a writer, who may never come.
///
/// # Errors
/// Those of [`read`], or it is a named pipe.
pub fn read_no_pipe(path: &Path, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Looked at once it is open: before, it could still be exchanged.
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a named pipe; give a file"));
    }
    read_opened(file, longest)
}

/// Without the mark of byte order that some editors put before all that they save.
fn read_opened(file: File, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {longest} bytes")));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// The text of a file with a secret, of at most [`SECRET_BYTES`].
///
/// # Errors
/// It can't be read, is too long, or is not UTF-8.
pub fn read_secret(path: &Path) -> io::Result<Secret> {
    let bytes = read(path, SECRET_BYTES)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_writes_to_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        assert!(read_no_pipe(&pipe, 10).unwrap_err().to_string().contains("named pipe"));
        std::fs::write(directory.path().join("file"), "text").unwrap();
        assert_eq!(*read_no_pipe(&directory.path().join("file"), 10).unwrap(), b"text");
    }

    #[test]
    fn an_endless_file_is_refused_and_one_at_the_bound_read() {
        assert_eq!(read(Path::new("/dev/zero"), 10).unwrap_err().to_string(), "it has more than 10 bytes");
        assert!(read_secret(Path::new("/dev/zero")).unwrap_err().to_string().contains("65536 bytes"));
        assert!(read(Path::new("/no/such/file"), 10).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(*read(file.path(), 10).unwrap(), b"0123456789");
        assert_eq!(read_secret(file.path()).unwrap().expose(), "0123456789");
        std::fs::write(file.path(), "\u{feff}key").unwrap();
        assert_eq!(read_secret(file.path()).unwrap().expose(), "key");
        std::fs::write(file.path(), b"\xff").unwrap();
        assert_eq!(read_secret(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
