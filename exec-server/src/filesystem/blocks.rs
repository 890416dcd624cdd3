//! A file's content, block by block: for answers that are sent while it is read, whose memory then does not depend on the
//! file's size.

use std::io;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2, retry_on_intr};

use super::close_later::close_later;
use super::local_mounts::is_local_kind;
use crate::blocking::{self, Blocking};

/// Content of one block: a multiple of three bytes, so that the base64 of blocks joins without padding.
/// Chosen for speed.
const BLOCK_BYTES: usize = 252 << 10;
/// Smaller files are read as a whole; a message of less than 1 MiB is one frame anyway. Chosen for speed.
const LEAST_BYTES: u64 = 3 << 18;

/// An open file on a local disk, to be read once from its start. As long as the kernel has it in memory, nothing waits; else
/// worker threads read one block ahead.
#[derive(Debug)]
pub(crate) struct FileBlocks {
    /// Taken when this is dropped, and not before.
    file: Option<Arc<OwnedFd>>,
    size: u64,
    at: u64,
    block: Vec<u8>,
    /// Room for the block after the next.
    spare: Vec<u8>,
    /// The kernel had to wait, or can't tell: worker threads read the rest.
    waits: bool,
    ahead: Option<Ahead>,
}

type Ahead = Blocking<(Vec<u8>, io::Result<usize>)>;

impl FileBlocks {
    /// Takes a regular file, and how large it is. Blocks. Gives it back when it is small, when its first byte can't be read, and
    /// when a server or a daemon is behind it: one that hangs in the middle would hold up everything that is sent after it.
    pub(super) fn new(file: OwnedFd, size: u64) -> Result<Self, OwnedFd> {
        #[allow(clippy::unnecessary_cast, reason = "the field's type differs between machines")]
        let is_local = || fstatfs(&file).is_ok_and(|system| is_local_kind(u64::from(system.f_type as u32)));
        let is_readable = || matches!(retry_on_intr(|| pread(&file, &mut [0], 0)), Ok(1));
        if size < LEAST_BYTES || !is_local() || !is_readable() {
            return Err(file);
        }
        Ok(Self {
            file: Some(Arc::new(file)),
            size,
            at: 0,
            block: Vec::new(),
            spare: Vec::new(),
            waits: false,
            ahead: None,
        })
    }

    /// Its size when it was opened (bytes): what grows afterwards is not read.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The next block, and whether it is the last: where the file ends, if it has shrunk. Each but the last has a multiple of
    /// three bytes.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn next(&mut self) -> io::Result<(&[u8], bool)> {
        let wanted = self.wanted(self.at);
        let read = match self.at_once(wanted) {
            Some(read) => read,
            None => self.waited(wanted).await?,
        };
        self.at += read as u64;
        let last = read < wanted || self.at >= self.size;
        if self.waits && !last {
            let room = std::mem::take(&mut self.spare);
            self.ahead = Some(self.begin(self.at, room));
        }
        Ok((&self.block[..read], last))
    }

    fn wanted(&self, at: u64) -> usize {
        usize::try_from(self.size - at).unwrap_or(usize::MAX).min(BLOCK_BYTES)
    }

    /// Reads what the kernel has in memory; none once that is not all.
    fn at_once(&mut self, wanted: usize) -> Option<usize> {
        if self.waits {
            return None;
        }
        let file = self.file.as_ref()?;
        self.block.resize(wanted, 0);
        let read = fill(&mut self.block, self.at, |into, at| {
            preadv2(file, &mut [io::IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)
        });
        // Whatever else is wrong shows when it is read with waiting.
        self.waits = read.is_err();
        read.ok()
    }

    async fn waited(&mut self, wanted: usize) -> io::Result<usize> {
        let reading = match self.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let room = std::mem::take(&mut self.block);
                self.begin(self.at, room)
            }
        };
        let (block, read) = reading.await.map_err(io::Error::other)?;
        self.spare = std::mem::replace(&mut self.block, block);
        debug_assert!(self.block.len() == wanted, "a block is read from where the one before it ended");
        read
    }

    /// Has a worker thread read the block at `at`.
    fn begin(&self, at: u64, mut block: Vec<u8>) -> Ahead {
        let (file, wanted) = (self.file.clone(), self.wanted(at));
        blocking::spawn(move || {
            block.resize(wanted, 0);
            let file = file.as_ref().ok_or(Errno::BADF);
            let read = fill(&mut block, at, |into, at| pread(file?, into, at));
            (block, read)
        })
    }
}

/// Fills `block` from `at` on; fewer bytes at the end of the file.
fn fill(
    block: &mut [u8],
    at: u64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match read(&mut block[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

impl Drop for FileBlocks {
    fn drop(&mut self) {
        // The last close of a file that was removed frees what it held; it must not be left to this thread.
        close_later(self.file.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 / 7) as u8).collect()
    }

    fn opened(content: &[u8]) -> (tempfile::NamedTempFile, FileBlocks) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let blocks = FileBlocks::new(file.reopen().unwrap().into(), content.len() as u64);
        (file, blocks.expect("a large file on a local disk"))
    }

    #[tokio::test]
    async fn every_size_comes_whole_with_waiting_and_without() {
        let least = LEAST_BYTES as usize;
        for size in [least, least + 1, 5 * BLOCK_BYTES - 1, 5 * BLOCK_BYTES, 5 * BLOCK_BYTES + 2] {
            for waits in [false, true] {
                let content = content(size);
                let (_kept, mut blocks) = opened(&content);
                blocks.waits = waits;
                let mut read = Vec::new();
                loop {
                    let (block, last) = blocks.next().await.unwrap();
                    assert!(last || block.len().is_multiple_of(3), "{size}");
                    read.extend_from_slice(block);
                    if last {
                        break;
                    }
                }
                assert!(read == content, "{size} bytes, with waiting: {waits}");
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_shrinks_ends_sooner_and_one_that_grows_does_not_end_later() {
        for waits in [false, true] {
            for (now, expected) in [(BLOCK_BYTES + 7, BLOCK_BYTES + 7), (9 << 20, 2 << 20)] {
                let (file, mut blocks) = opened(&content(2 << 20));
                blocks.waits = waits;
                let mut read = blocks.next().await.unwrap().0.len();
                file.as_file().set_len(now as u64).unwrap();
                let (mut last, mut blocks_read) = (false, 1);
                while !last {
                    let (block, is_last) = blocks.next().await.unwrap();
                    (read, last, blocks_read) = (read + block.len(), is_last, blocks_read + 1);
                }
                // A block may have been read ahead.
                assert!(
                    read == expected || (waits && read == 2 * BLOCK_BYTES && now < read),
                    "{read} of {expected} after {blocks_read} blocks"
                );
            }
        }
    }

    #[test]
    fn small_files_and_those_that_are_not_on_a_disk_are_read_otherwise() {
        let mut small = tempfile::NamedTempFile::new().unwrap();
        small.write_all(b"small").unwrap();
        assert!(FileBlocks::new(small.reopen().unwrap().into(), 5).is_err());
        let proc = std::fs::File::open("/proc/self/maps").unwrap();
        assert!(FileBlocks::new(proc.into(), 1 << 30).is_err());
    }
}
