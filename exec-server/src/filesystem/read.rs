//! `fs/readFile` (10.1), and how a regular file is opened without ever waiting for a FIFO or device.

use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, fstat, openat, seek, statat};
use rustix::io::{Errno, read};

use super::blocks::FileBlocks;
use super::error::{not_a_file, out_of_memory, rpc_error};
use super::handles::read_at;
use super::path::open_parent;
use crate::Limits;
use crate::protocol::filesystem::{ReadFileParams, ReadFileResult};
use crate::protocol::{Base64Bytes, RpcError};

/// How much a buffer grows by once a file turned out longer than its size said, as those of `/proc` do.
const GROWTH: usize = 64 << 10;

/// A file that is open to be read whole, in two steps, so that its memory can be accounted for between them.
#[derive(Debug)]
pub(crate) struct WholeFile {
    file: OwnedFd,
    /// What it says of itself.
    size: u64,
    expected: u64,
    limit: u64,
}

impl WholeFile {
    /// Takes a regular file that is open, and its size.
    ///
    /// # Errors
    /// `-32600` for one larger than `limits.files.read_file_bytes`.
    pub(crate) fn new(file: OwnedFd, size: u64, limits: &Limits) -> Result<Self, RpcError> {
        let limit = limits.files.read_file_bytes;
        if size > limit {
            return Err(too_large(size, limit));
        }
        // Files of `/proc` say 0 and are small; the size of others is at most a little out of date.
        Ok(Self { file, size, expected: size.saturating_add(GROWTH as u64).min(limit), limit })
    }

    /// The same file, to be read while the answer is sent; itself where that is of no use.
    pub(crate) fn into_blocks(self) -> Result<FileBlocks, Self> {
        let Self { file, size, expected, limit } = self;
        FileBlocks::new(file, size).map_err(|file| Self { file, size, expected, limit })
    }

    /// The most bytes that [`Self::read`] returns; after it returned nothing, more than before.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Reads to the end. Nothing when the file turned out longer than expected: then to be called once more.
    ///
    /// # Errors
    /// `-32600` when it is larger than the limit by now; the system's otherwise.
    pub(crate) fn read(&mut self) -> Result<Option<ReadFileResult>, RpcError> {
        let data = read_whole(&self.file, self.size, self.expected)?;
        if data.len() as u64 <= self.expected {
            return Ok(Some(ReadFileResult { data: Base64Bytes(data), eof: None }));
        }
        if self.expected >= self.limit {
            return Err(too_large(data.len() as u64, self.limit));
        }
        self.expected = self.limit;
        seek(&self.file, SeekFrom::Start(0)).map_err(rpc_error)?;
        Ok(None)
    }
}

/// How many bytes of a file are asked for at most; none for the whole file.
///
/// # Errors
/// `-32602` for a number out of bounds.
pub(crate) fn piece(params: &ReadFileParams, limits: &Limits) -> Result<Option<u64>, RpcError> {
    let longest = limits.files.block_bytes;
    match params.max_bytes {
        None => Ok(params.offset.map(|_| longest)),
        Some(most) if (1..=longest).contains(&most) => Ok(Some(most)),
        Some(most) => Err(RpcError::invalid_params(format!(
            "fs/readFile: maxBytes must be between 1 and {longest}, not {most}; more is read in several pieces"
        ))),
    }
}

/// Reads a piece of a regular file that is open, of at most `most` bytes. Blocks.
///
/// # Errors
/// The system's, and `-32603` without memory for it.
pub(crate) fn read_piece(
    file: &OwnedFd,
    size: u64,
    offset: u64,
    most: u64,
) -> Result<ReadFileResult, RpcError> {
    // Files of `/proc` say 0, and end where a read finds less than was asked for.
    let most = if size > 0 { most.min(size.saturating_sub(offset)) } else { most };
    let piece = read_at(file, offset, most)?;
    let ends = piece.eof || (size > 0 && offset.saturating_add(piece.chunk.0.len() as u64) >= size);
    Ok(ReadFileResult { data: piece.chunk, eof: Some(ends) })
}

fn too_large(size: u64, limit: u64) -> RpcError {
    RpcError::invalid_request(format!(
        "file is too large to read at once: {size} bytes, the limit is {limit}; \
         read it in blocks (fs/open, fs/readBlock)"
    ))
}

/// Opens a regular file for reading; gives its size too.
///
/// The kind is looked at before opening, since opening alone may have effects on a device or a FIFO's writer; and once
/// more on what was opened, since the name may have changed hands.
///
/// # Errors
/// `-32600` for what is no regular file; the system's otherwise.
pub(crate) fn open_regular(path: &Path, follow: bool) -> Result<(OwnedFd, u64), RpcError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = if follow {
        let found = statat(CWD, path, AtFlags::empty()).map_err(rpc_error)?;
        require_regular(path, found.st_mode)?;
        openat(CWD, path, flags, Mode::empty()).map_err(rpc_error)?
    } else {
        let (parent, name) = open_parent(path, false).map_err(rpc_error)?;
        let found = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(rpc_error)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            return Err(rpc_error(Errno::LOOP));
        }
        require_regular(path, found.st_mode)?;
        openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(rpc_error)?
    };
    let opened = fstat(&file).map_err(rpc_error)?;
    require_regular(path, opened.st_mode)?;
    Ok((file, u64::try_from(opened.st_size).unwrap_or(0)))
}

fn require_regular(path: &Path, mode: u32) -> Result<(), RpcError> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(not_a_file(path).of_system(Errno::ISDIR.raw_os_error())),
        _ => Err(not_a_file(path)),
    }
}

/// Reads to the end, or until it has more than `most` bytes.
fn read_whole(file: &OwnedFd, size: u64, most: u64) -> Result<Vec<u8>, RpcError> {
    let mut data = Vec::new();
    // One byte more than expected lets the read that finds the end need no further memory.
    reserve(&mut data, usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1))?;
    loop {
        match read(file, spare_capacity(&mut data)) {
            Ok(0) => return Ok(data),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(rpc_error(error)),
        }
        if data.len() as u64 > most {
            return Ok(data);
        }
        if data.len() == data.capacity() {
            let more = data.len().max(GROWTH);
            reserve(&mut data, more)?;
        }
    }
}

fn reserve(data: &mut Vec<u8>, bytes: usize) -> Result<(), RpcError> {
    data.try_reserve_exact(bytes).map_err(|_| out_of_memory(bytes as u64))
}
