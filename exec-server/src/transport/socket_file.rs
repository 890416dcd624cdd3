//! A Unix socket file of our own: private from its first moment, and removed only while it is ours.

use std::fs::{Permissions, symlink_metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::bind_error::BindError;

const OWNER_ONLY: u32 = 0o600;
/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A file by its identity, which outlives a rename.
type Identity = (u64, u64);

/// Removes the socket file when dropped, if it is still the one that was made here. A copy that a fork has made removes
/// nothing.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// The process that made it.
    owner: u32,
}

impl SocketFile {
    /// Binds and listens at `path`. The file of a server that is gone is replaced.
    pub(super) fn bind(path: &Path) -> Result<(OwnedFd, Self), BindError> {
        let failed = |source: io::Error| BindError::Unix { path: path.to_owned(), source };
        let failed_call = |errno: rustix::io::Errno| failed(errno.into());
        let absolute = std::path::absolute(path).map_err(failed)?;
        let address = SocketAddrUnix::new(path).map_err(failed_call)?;
        remove_stale(path, &address)?;
        let socket = stream_socket().map_err(failed_call)?;
        // Linux gives the file the mode of the socket; elsewhere this fails, and nobody can connect before
        // `listen`, so the mode set below comes early enough.
        let _ = fchmod(&socket, Mode::from_raw_mode(OWNER_ONLY));
        bind(&socket, &address).map_err(failed_call)?;
        let metadata = symlink_metadata(&absolute).map_err(failed)?;
        let identity = (metadata.dev(), metadata.ino());
        let file = Self { path: absolute, identity, owner: std::process::id() };
        if metadata.mode() & 0o777 != OWNER_ONLY {
            std::fs::set_permissions(&file.path, Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
        }
        listen(&socket, BACKLOG).map_err(failed_call)?;
        Ok((socket, file))
    }

    /// Where it is, as an absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.owner == std::process::id()
            && identity(&self.path) == Some(self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

fn stream_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Removes a socket file that nobody serves.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let failed = |source: io::Error| BindError::Unix { path: path.to_owned(), source };
    let metadata = match symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    let probe = stream_socket().map_err(|errno| failed(errno.into()))?;
    match connect(&probe, address) {
        Err(rustix::io::Errno::CONNREFUSED) => {}
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        // A full queue is a sign of life too.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => return Err(BindError::InUse(path.to_owned())),
        Err(errno) => return Err(failed(errno.into())),
    }
    // Another server may have replaced the file since it was found dead.
    if identity(path) == Some((metadata.dev(), metadata.ino())) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    Ok(())
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = symlink_metadata(path).ok()?;
    metadata.file_type().is_socket().then(|| (metadata.dev(), metadata.ino()))
}
