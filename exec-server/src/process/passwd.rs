//! Asks the passwd database who runs the server: the login shell and the home directory.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The largest entry that is tried: no real one comes near it.
const LARGEST_ENTRY: usize = 1 << 20;

/// The entry of one user in the passwd database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: OsString,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell; `/bin/sh` where the entry leaves it empty (passwd(5)).
    pub shell: OsString,
}

/// The entry of the user that runs this process; `None` if the database has none (as in many containers).
///
/// Goes through the name service switch, which may ask the network: call it once, at start.
///
/// # Errors
/// When the database cannot be read.
pub fn account() -> io::Result<Option<Account>> {
    let user = rustix::process::getuid().as_raw();
    let mut size = 1024;
    loop {
        match lookup(user, size) {
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && size < LARGEST_ENTRY => size *= 4,
            answer => return answer,
        }
    }
}

#[allow(unsafe_code)]
fn lookup(user: libc::uid_t, size: usize) -> io::Result<Option<Account>> {
    let mut buffer = vec![0_u8; size];
    // SAFETY: `passwd` is plain integers and pointers, for which all zero is a value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: every pointer is to a live local of the size that is passed.
    let error = unsafe {
        libc::getpwuid_r(user, &raw mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found)
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    if found.is_null() {
        return Ok(None);
    }
    let text = |pointer: *const libc::c_char| -> OsString {
        if pointer.is_null() {
            return OsString::new();
        }
        // SAFETY: a found entry's members are strings that end with NUL inside `buffer`, which outlives this.
        OsStr::from_bytes(unsafe { CStr::from_ptr(pointer) }.to_bytes()).to_owned()
    };
    let shell = text(entry.pw_shell);
    Ok(Some(Account {
        name: text(entry.pw_name),
        home: text(entry.pw_dir).into(),
        shell: if shell.is_empty() { "/bin/sh".into() } else { shell },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_knows_who_runs_the_tests() {
        let account = account().expect("a readable database").expect("an entry");
        let id = std::process::Command::new("id").arg("-un").output().expect("id runs").stdout;
        assert_eq!(account.name.as_bytes(), id.trim_ascii_end());
        assert!(account.home.is_absolute() && account.shell.as_bytes().starts_with(b"/"), "{account:?}");
    }
}
