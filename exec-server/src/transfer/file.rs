//! One file: as a whole where it is small, else in blocks, from where an earlier copy broke off.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use super::stream::handle;
use super::{Transfer, is_missing, stat_params};
use crate::environment::{CallError, Files};
use crate::protocol::filesystem::{
    CloseParams, Entry, GetEntryParams, HashParams, OpenMode, OpenParams, PlaceParams, ReadBlockParams,
    ReadFileParams, RemoveParams, WriteBlockParams,
};
use crate::protocol::{ErrorCode, WirePath};

/// Files up to this many bytes are sent in one message. Chosen for speed.
const WHOLE: u64 = 256 << 10;
/// Bytes of a block. Fixed by the wire.
const BLOCK: u64 = 1 << 20;
/// Blocks on their way at once. Chosen for speed.
const DEPTH: usize = 4;
/// Attempts after a lost connection that go on where the one before stopped. Our own pace: nothing outside depends on it.
const MOST_ATTEMPTS: u32 = 5;
/// The longest name that file systems take, in bytes. Fixed by the kernel.
const LONGEST_NAME: usize = 255;

/// Why an attempt ended.
enum Stopped {
    /// The connection, and the handles with it; another one may go on.
    Lost(String),
    Failed(String),
}

impl From<CallError> for Stopped {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost(reason) => Self::Lost(reason),
            // A handle that ended with its connection.
            CallError::Rpc(error)
                if error.code == ErrorCode::NOT_FOUND && error.message.contains("handle") =>
            {
                Self::Lost(error.message)
            }
            CallError::Rpc(error) => Self::Failed(error.message),
        }
    }
}

/// The name under which a file is written until it is whole.
pub(super) fn part_of(path: &Path) -> PathBuf {
    const ENDING: &[u8] = b".codex-part";
    let name = path.file_name().unwrap_or_default().as_bytes();
    let kept = name.len().min(LONGEST_NAME - ENDING.len() - 1);
    let part = [b".", name.get(..kept).unwrap_or_default(), ENDING].concat();
    path.with_file_name(OsString::from_vec(part))
}

impl Transfer {
    /// Copies a regular file.
    pub(super) async fn file(&self, entry: &Entry, destination: &Path) -> Result<(), String> {
        let part = part_of(destination);
        let mut attempts = 0;
        loop {
            let done = match entry.size <= WHOLE {
                true => self.whole(entry, &part, destination).await,
                false => self.in_blocks(entry, &part, destination).await,
            };
            match done {
                Ok(()) => return Ok(()),
                Err(Stopped::Lost(_)) if attempts < MOST_ATTEMPTS => attempts += 1,
                Err(Stopped::Lost(reason) | Stopped::Failed(reason)) => return Err(reason),
            }
        }
    }

    async fn whole(&self, entry: &Entry, part: &Path, destination: &Path) -> Result<(), Stopped> {
        let read = ReadFileParams::whole(entry.path.clone());
        let data = self.from.read_file(read).await?.data.0;
        let (size, sha256) = (data.len() as u64, hex::encode(Sha256::digest(&data)));
        let handle_id = handle();
        let open = OpenParams {
            handle_id: handle_id.clone(),
            path: part.to_owned().into(),
            mode: OpenMode::Update,
            sandbox: None,
        };
        let write = WriteBlockParams { handle_id: handle_id.clone(), offset: 0, chunk: data.into() };
        let written = async {
            // A block of nothing is none.
            if size > 0 { self.to.write_block(write).await.map(drop) } else { Ok(()) }
        };
        // All are begun before the first is answered. The last one checks what became of those before.
        let (opened, written, (), placed) = tokio::join!(
            self.to.open(open),
            written,
            close(&*self.to, handle_id),
            self.place(entry, part, destination, size, sha256)
        );
        opened?;
        written?;
        placed?;
        self.sent(size);
        Ok(())
    }

    async fn in_blocks(&self, entry: &Entry, part: &Path, destination: &Path) -> Result<(), Stopped> {
        let start = self.resume(entry, part).await?;
        let known =
            GetEntryParams { path: entry.path.clone(), follow_symlinks: true, extents: true, sandbox: None };
        let extents = self.from.stat(known).await?.extents.unwrap_or_else(|| vec![(0, entry.size)]);
        // Both sides read from the memory that the system has just filled.
        let hashing = self.from.hash(HashParams { path: entry.path.clone(), length: None, sandbox: None });
        let sending = self.send(entry, part, blocks(extents, start));
        let (hash, sent) = tokio::join!(hashing, sending);
        sent?;
        let sha256 = hash?.sha256;
        match self.place(entry, part, destination, entry.size, sha256).await {
            Err(Stopped::Failed(reason)) => {
                // It is not what it should be, and no beginning of it either.
                self.remove(part).await;
                Err(Stopped::Failed(reason))
            }
            done => done,
        }
    }

    /// How many bytes an earlier copy left that are right; what is wrong is removed.
    async fn resume(&self, entry: &Entry, part: &Path) -> Result<u64, Stopped> {
        let left = match self.to.stat(stat_params(part, false)).await {
            Ok(left) => left.size.min(entry.size),
            Err(error) if is_missing(&error) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let first = |path: WirePath| HashParams { path, length: Some(left), sandbox: None };
        let (ours, theirs) = tokio::join!(
            self.from.hash(first(entry.path.clone())),
            self.to.hash(first(part.to_owned().into()))
        );
        match (ours?, theirs) {
            (ours, Ok(theirs)) if left > 0 && ours == theirs => {
                self.report.lock().resumed += left;
                self.progress.bytes.fetch_add(left, Ordering::Relaxed);
                Ok(left)
            }
            _ => {
                self.remove(part).await;
                Ok(0)
            }
        }
    }

    async fn remove(&self, part: &Path) {
        let params = RemoveParams {
            path: part.to_owned().into(),
            recursive: Some(false),
            force: Some(true),
            follow_symlinks: None,
            sandbox: None,
        };
        // What can't be removed is told by what is done next.
        let _ = self.to.remove(params).await;
    }

    async fn send(
        &self,
        entry: &Entry,
        part: &Path,
        blocks: impl Iterator<Item = (u64, u64)>,
    ) -> Result<(), Stopped> {
        let reading = Self::open(&*self.from, entry.path.clone(), OpenMode::Read).await?;
        let writing = match Self::open(&*self.to, part.to_owned().into(), OpenMode::Update).await {
            Ok(writing) => writing,
            Err(error) => {
                close(&*self.from, reading).await;
                return Err(error);
            }
        };
        let read = |(offset, len)| {
            let params = ReadBlockParams { handle_id: reading.clone(), offset, len };
            async move {
                let block = self.from.read_block(params).await?;
                if block.chunk.0.len() as u64 != len {
                    return Err(Stopped::Failed("it became shorter while it was copied".into()));
                }
                Ok((offset, block.chunk))
            }
        };
        let write = |(offset, chunk): (u64, crate::protocol::Base64Bytes)| {
            let count = chunk.0.len() as u64;
            let params = WriteBlockParams { handle_id: writing.clone(), offset, chunk };
            async move {
                self.to.write_block(params).await?;
                self.sent(count);
                Ok(())
            }
        };
        let sent = futures_util::stream::iter(blocks)
            .map(read)
            .buffered(DEPTH)
            .map_ok(write)
            .try_buffered(DEPTH)
            .try_for_each(|()| async { Ok(()) })
            .await;
        tokio::join!(close(&*self.from, reading.clone()), close(&*self.to, writing.clone()));
        sent
    }

    fn sent(&self, bytes: u64) {
        self.report.lock().sent += bytes;
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    async fn open(files: &dyn Files, path: WirePath, mode: OpenMode) -> Result<String, Stopped> {
        let opened = files.open(OpenParams { handle_id: handle(), path, mode, sandbox: None }).await?;
        Ok(opened.handle_id)
    }

    async fn place(
        &self,
        entry: &Entry,
        part: &Path,
        destination: &Path,
        size: u64,
        sha256: String,
    ) -> Result<(), Stopped> {
        let params = PlaceParams {
            path: part.to_owned().into(),
            destination: Some(destination.to_owned().into()),
            size: Some(size),
            sha256: Some(sha256),
            mode: Some(entry.mode),
            modified_at_ns: Some(entry.modified_at_ns),
            replaces_sha256: None,
            sandbox: None,
        };
        self.to.place(params).await?;
        Ok(())
    }
}

/// A handle that is not closed ends with its connection.
async fn close(files: &dyn Files, handle_id: String) {
    let _ = files.close(CloseParams { handle_id }).await;
}

/// The blocks of data from `start` on: offset and length.
fn blocks(extents: Vec<(u64, u64)>, start: u64) -> impl Iterator<Item = (u64, u64)> {
    extents.into_iter().flat_map(move |(from, len)| {
        let end = from.saturating_add(len);
        let first = from.max(start).min(end);
        let step = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        (first..end).step_by(step).map(move |at| (at, BLOCK.min(end - at)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_data_behind_the_start_and_no_holes() {
        let of = |extents: &[(u64, u64)], start| blocks(extents.to_vec(), start).collect::<Vec<_>>();
        assert_eq!(of(&[(0, 10)], 0), [(0, 10)]);
        assert_eq!(of(&[(0, 10)], 4), [(4, 6)]);
        assert_eq!(of(&[(0, 10)], 10), []);
        assert_eq!(of(&[(5, BLOCK + 1), (BLOCK * 9, 3)], 6), [(6, BLOCK), (BLOCK * 9, 3)]);
        assert_eq!(of(&[(0, BLOCK * 2 + 1)], 0), [(0, BLOCK), (BLOCK, BLOCK), (BLOCK * 2, 1)]);
        assert_eq!(of(&[], 0), []);
    }

    #[test]
    fn a_part_stands_beside_its_file_under_a_name_that_fits() {
        assert_eq!(part_of(Path::new("/a/b")), Path::new("/a/.b.codex-part"));
        let long = Path::new("/a").join("x".repeat(255));
        assert_eq!(part_of(&long).file_name().unwrap().len(), 255);
    }
}
