//! Turns errors of the operating system into answers (section 10, common rules).

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::protocol::{ErrorCode, RpcError};

/// The answer for an operating system's error: not found is `-32004`, invalid argument and permission denied are
/// `-32600`, everything else is `-32603`; the sentence is the system's own.
pub(crate) fn rpc_error(error: impl Into<io::Error>) -> RpcError {
    let error = error.into();
    let code = match error.kind() {
        ErrorKind::NotFound => ErrorCode::NOT_FOUND,
        ErrorKind::InvalidInput | ErrorKind::PermissionDenied => ErrorCode::INVALID_REQUEST,
        _ => ErrorCode::INTERNAL,
    };
    RpcError { os_error: error.raw_os_error(), ..RpcError::new(code, error.to_string()) }
}

/// `-32600` for a directory, a FIFO or a device where a file is wanted.
pub(super) fn not_a_file(path: &Path) -> RpcError {
    RpcError::invalid_request(format!("path `{}` is not a file", path.display()))
}

/// `-32603` for a buffer that the machine has no memory for.
pub(super) fn out_of_memory(bytes: u64) -> RpcError {
    RpcError::internal(format!(
        "no memory for {bytes} bytes; read the file in blocks (fs/open, fs/readBlock)"
    ))
}
