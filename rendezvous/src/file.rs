//! Reads the operator's files: bounded, and never waiting for a writer.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

/// Largest file that is read, in bytes: room for ten thousand tokens. A safeguard, far from any real use.
const FILE_BYTES: u64 = 16 << 20;

/// All of a file; wiped after use. A named pipe is refused, since opening one waits for a writer that may never come.
///
/// # Errors
/// It can't be read, is a named pipe, or has more than 16 MiB.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    codex_outgoing::file::read_no_pipe(path, FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_refused_and_a_good_one_read() {
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("16777216 bytes"));
        assert!(read(Path::new("/no/such/file")).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        assert_eq!(*read(file.path()).unwrap(), b"text");
    }
}
