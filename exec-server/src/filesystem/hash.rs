//! `fs/hash`: the SHA-256 of a file, by which a copy is checked and taken up again.

use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fd::AsFd;
use rustix::io::{Errno, pread};

use super::error::rpc_error;
use super::path::local;
use super::{How, PathMethod, PathUse, open_regular};
use crate::Limits;
use crate::protocol::RpcError;
use crate::protocol::filesystem::{Hash, HashParams, HashResult};

/// Bytes that are read at once. Chosen for speed.
const PIECE: usize = 256 << 10;

/// Errors: `-32600` for what is no regular file; the system's.
impl PathMethod for Hash {
    fn run(params: &HashParams, _: &Limits) -> Result<HashResult, RpcError> {
        of_file(local(&params.path)?, params.length.unwrap_or(u64::MAX))
    }

    fn paths(params: &HashParams) -> Vec<PathUse<'_>> {
        vec![How::Reads.of(&params.path)]
    }
}

/// The hash of a file's first bytes, at most this many.
///
/// # Errors
/// As for the method.
pub(super) fn of_file(path: &Path, length: u64) -> Result<HashResult, RpcError> {
    let (file, _) = open_regular(path, true)?;
    of_open(&file, length)
}

/// The same of an open file.
///
/// # Errors
/// The system's.
pub(super) fn of_open(file: impl AsFd, length: u64) -> Result<HashResult, RpcError> {
    let (mut context, mut piece, mut at) = (Context::new(&SHA256), vec![0; PIECE], 0);
    while at < length {
        let most = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
        match pread(&file, piece.get_mut(..most).unwrap_or_default(), at) {
            Ok(0) => break,
            Ok(count) => {
                context.update(piece.get(..count).unwrap_or_default());
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(rpc_error(error)),
        }
    }
    Ok(HashResult { sha256: hex::encode(context.finish()), bytes: at })
}
