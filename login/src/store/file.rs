//! Credentials in `auth.json` (login.md 2.3, 2.4). Writers hold the locks.

use super::error::StoreError;
use crate::credentials::StoredCredentials;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

const NAME: &str = "auth.json";
const TEMPORARY_PREFIX: &str = ".auth-";
const TEMPORARY_RANDOM: usize = 6;
/// The longest chain of symbolic links that is followed, as in the kernel. Fixed by the kernel.
const MAX_LINKS: usize = 40;
/// Far more than any credentials have. A safeguard, far from any real use.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// What is written to try whether credentials could be. Our own pace: nothing outside depends on it.
const SPARE_BYTES: usize = 16 << 10;
/// The file of somebody who signed out, where it can't be removed. To released programs an empty object is a sign-in with
/// ChatGPT, and an empty file broken.
const NOBODY: &[u8] = b"null";

pub(super) fn load(home: &Path) -> Result<Option<StoredCredentials>, StoreError> {
    let path = home.join(NAME);
    match read(&path) {
        Ok(json) if json.as_slice() == NOBODY => Ok(None),
        Ok(json) => StoredCredentials::from_json(&json).map(Some).map_err(StoreError::BadFile),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::ReadFile { path, source }),
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = codex_config::file::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {MAX_BYTES} bytes")));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind that nobody wipes.
    let mut json = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1)));
    file.take(MAX_BYTES).read_to_end(&mut json)?;
    Ok(json)
}

pub(super) fn save(home: &Path, credentials: &StoredCredentials) -> Result<(), StoreError> {
    let json = credentials.to_pretty_json().map_err(StoreError::Serialize)?;
    let path = home.join(NAME);
    remove_leftovers(home);
    write(&path, &json).map_err(|source| StoreError::WriteFile { path, source })
}

/// Tries whether credentials could be saved, and changes nothing.
pub(super) fn check_writable(home: &Path) -> Result<(), StoreError> {
    let path = home.join(NAME);
    let check = || {
        let target = behind_links(&path)?;
        let room = [0; SPARE_BYTES];
        match temporary(&target, &room) {
            // Where it is mounted, it can't be replaced though its directory takes files.
            Ok(_) if !is_mounted(&target) => Ok(()),
            Ok(_) => in_place(&target).map(drop),
            Err(error) if in_place_may_help(&error) => in_place(&target).map(drop).map_err(|_| error),
            Err(error) => Err(error),
        }
    };
    check().map_err(|source| StoreError::WriteFile { path, source })
}

/// Replaces a file whole, so that a reader sees the old or the new one whenever this process is killed. A file that
/// can't be replaced, since it is mounted by itself or its directory is closed to us, is written in place.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = behind_links(path)?;
    let replaced = temporary(&target, bytes).and_then(|file| {
        file.as_file().sync_all()?;
        file.persist(&target)?;
        Ok(())
    });
    match replaced {
        Err(error) if in_place_may_help(&error) => write_in_place(&target, bytes).map_err(|_| error),
        replaced => replaced,
    }
}

/// A new file with this content beside the target; it goes away unless it is persisted.
fn temporary(target: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .rand_bytes(TEMPORARY_RANDOM)
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(target.parent().ok_or(ErrorKind::InvalidInput)?)?;
    temporary.write_all(bytes)?;
    Ok(temporary)
}

/// Whether a file could be written that can't be replaced for this reason: mounted by itself, or in a directory that is
/// not ours or is read-only.
fn in_place_may_help(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
    )
}

/// Whether something is mounted there. Where the kernel doesn't tell, a rename will.
fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn in_place(target: &Path) -> io::Result<File> {
    let file = codex_config::file::open(target)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    File::options().write(true).open(target)
}

/// Readers may see a half-written file for a moment; there is no better way, and writers hold the locks. The length comes
/// last, so that a full disk leaves room that the old content had.
fn write_in_place(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = in_place(target)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// The file itself behind symbolic links, which need not exist. The links stay.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

pub(super) fn remove(home: &Path) -> Result<bool, StoreError> {
    remove_leftovers(home);
    let path = home.join(NAME);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        // The file stays where it can't be removed, but says that nobody is signed in.
        Err(error) if in_place_may_help(&error) => match write_in_place(&path, NOBODY) {
            Ok(()) => Ok(true),
            Err(_) => Err(StoreError::RemoveFile { path, source: error }),
        },
        Err(source) => Err(StoreError::RemoveFile { path, source }),
    }
}

/// Removes the temporaries of writers that were killed: they hold credentials, and a sign-out must not leave them.
/// The locks are held, so no living writer owns one.
fn remove_leftovers(home: &Path) {
    let Ok(entries) = std::fs::read_dir(home) else { return };
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file
            && is_temporary(&entry.file_name())
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, "an interrupted save left a temporary file that can't be removed");
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_prefix(TEMPORARY_PREFIX)).is_some_and(|random| {
        random.len() == TEMPORARY_RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}
