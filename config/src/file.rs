//! Opens files that are to be read, without waiting for anybody.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading. A named pipe is refused: opening one waits for a writer that may never come.
///
/// # Errors
/// It can't be opened, or is a named pipe.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a named pipe"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_writes_to_is_refused_and_all_else_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        crate::testing::pipe(&at("pipe"));
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        for name in ["pipe", "link"] {
            assert_eq!(open(&at(name)).unwrap_err().to_string(), "it is a named pipe");
        }
        assert_eq!(open(&at("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(at("file"), "text").unwrap();
        let mut text = String::new();
        open(&at("file")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(open(Path::new("/dev/null")).is_ok());
    }
}
