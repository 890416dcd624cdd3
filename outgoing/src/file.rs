//! Reads files that people name, within a bound.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

/// Longest file with a secret, in bytes: a token or a key has a few kilobytes.
pub const SECRET_BYTES: u64 = 64 << 10;

/// All of a file, wiped after use. It may also be the pipe of a program that hands out a secret.
///
/// # Errors
/// It can't be read, or has more than `longest` bytes.
pub fn read(path: &Path, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {longest} bytes")));
    }
    Ok(bytes)
}

/// The text of a file with a secret, of at most [`SECRET_BYTES`].
///
/// # Errors
/// It can't be read, is too long, or is not UTF-8.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let bytes = read(path, SECRET_BYTES)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_refused_and_one_at_the_bound_read() {
        assert_eq!(read(Path::new("/dev/zero"), 10).unwrap_err().to_string(), "it has more than 10 bytes");
        assert!(read_secret(Path::new("/dev/zero")).unwrap_err().to_string().contains("65536 bytes"));
        assert!(read(Path::new("/no/such/file"), 10).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(*read(file.path(), 10).unwrap(), b"0123456789");
        assert_eq!(read_secret(file.path()).unwrap().as_str(), "0123456789");
        std::fs::write(file.path(), b"\xff").unwrap();
        assert_eq!(read_secret(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
