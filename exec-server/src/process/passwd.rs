//! Asks the passwd database who runs the server: the login shell and the home directory.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{User, getuid};

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
    Ok(User::from_uid(getuid())?.map(|user| {
        let shell = user.shell.into_os_string();
        Account {
            name: user.name.into(),
            home: user.dir,
            shell: if shell.is_empty() { "/bin/sh".into() } else { shell },
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn the_database_knows_who_runs_the_tests() {
        let account = account().expect("a readable database").expect("an entry");
        let id = std::process::Command::new("id").arg("-un").output().expect("id runs").stdout;
        assert_eq!(account.name.as_bytes(), id.trim_ascii_end());
        assert!(account.home.is_absolute() && account.shell.as_bytes().starts_with(b"/"), "{account:?}");
    }
}
