//! Memory that outlives this process, as long as somebody holds its descriptor: a sealed `memfd`, mapped.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// No memory of ours is larger, so a descriptor that is is none of ours. A safeguard, far from any real use.
const LARGEST: u64 = 1 << 40;

/// The bytes of one `memfd`, mapped. Its size never changes (the seals), so that no access can fail.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: plain shared memory, reached through atomics, or copied from and to places that one writer owns at a time.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `Mapping::new` with this size, and nobody refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

impl Mapping {
    fn new(fd: impl AsFd, size: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let mapped =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, access, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, size })
    }
}

/// A part of such memory. Whatever is read from it may be wrong where another build, or a fault, has written it: nothing out of
/// bounds is ever reached.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    mapping: Arc<Mapping>,
    from: usize,
    size: usize,
}

impl Memory {
    /// New memory of `size` bytes, all 0 and not taken from the system before they are touched, and its descriptor.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn create(size: usize) -> io::Result<(Self, OwnedFd)> {
        let fd =
            rustix::fs::memfd_create(c"codex-exec-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, size as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::whole(Mapping::new(&fd, size)?), fd))
    }

    /// The memory behind a descriptor.
    ///
    /// # Errors
    /// When it is none whose size is sealed, and those of the system.
    pub(super) fn open(fd: impl AsFd) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&fd)?;
        let size = u64::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
        if !seals.contains(SealFlags::SHRINK) || size == 0 || size > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no memory of a fixed size"));
        }
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Self::whole(Mapping::new(&fd, size)?))
    }

    fn whole(mapping: Mapping) -> Self {
        let size = mapping.size;
        Self { mapping: Arc::new(mapping), from: 0, size }
    }

    /// A part of it; none where it is not that large. Parts begin at multiples of 8.
    pub(super) fn part(&self, from: usize, size: usize) -> Option<Self> {
        let fits = from.checked_add(size).is_some_and(|end| end <= self.size);
        (fits && from.is_multiple_of(8)).then(|| Self {
            mapping: Arc::clone(&self.mapping),
            from: self.from + from,
            size,
        })
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    fn at(&self, offset: usize, length: usize) -> Option<NonNull<u8>> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.size);
        // SAFETY: within the mapping, since the part is.
        fits.then(|| unsafe { self.mapping.base.add(self.from + offset) })
    }

    /// A number in it.
    ///
    /// # Panics
    /// Never for the offsets of a header whose size was looked at.
    pub(super) fn word(&self, offset: usize) -> Option<&AtomicU64> {
        let place = self.at(offset, 8).filter(|_| offset.is_multiple_of(8))?;
        // SAFETY: aligned, since mappings are and parts begin at multiples of 8; as long-lived as the mapping, which `self`
        // holds; an atomic may be changed by anybody.
        Some(unsafe { place.cast::<AtomicU64>().as_ref() })
    }

    /// Copies bytes into it. False where there is no room.
    pub(super) fn put(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(place) = self.at(offset, bytes.len()) else { return false };
        // SAFETY: in bounds, and `bytes` can't overlap: no reference to mapped bytes is ever handed out but by `target`, whose
        // caller holds the writer's lock.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// Copies bytes out of it; nothing where it is not that large.
    pub(super) fn get(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(place) = self.at(offset, length) else { return bytes };
        bytes.reserve_exact(length);
        // SAFETY: in bounds; `length` bytes are copied into the room that was made for as many.
        unsafe {
            place.copy_to_nonoverlapping(NonNull::new_unchecked(bytes.as_mut_ptr()), length);
            bytes.set_len(length);
        }
        bytes
    }

    /// Fills a part of it with one byte.
    pub(super) fn fill(&self, offset: usize, length: usize, byte: u8) {
        if let Some(place) = self.at(offset, length) {
            // SAFETY: in bounds.
            unsafe { place.write_bytes(byte, length) };
        }
    }

    /// A place that the kernel is to read into. Only for the one who writes there, and nobody reads there before it is published.
    #[expect(
        clippy::mut_from_ref,
        reason = "it is shared memory: the writer's lock is what keeps others away"
    )]
    pub(super) fn target(&self, offset: usize, length: usize) -> &mut [MaybeUninit<u8>] {
        let Some(place) = self.at(offset, length) else { return &mut [] };
        // SAFETY: in bounds, and the caller is the only one that uses this place for as long as it keeps this.
        unsafe { std::slice::from_raw_parts_mut(place.as_ptr().cast(), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_again_behind_its_descriptor_and_never_out_of_bounds() {
        let (memory, fd) = Memory::create(8192).expect("memory");
        assert!(memory.put(4096, b"kept"));
        drop(memory);
        let again = Memory::open(&fd).expect("the same");
        assert_eq!(again.get(4096, 4), b"kept");
        assert!(!again.put(8190, b"kept") && again.get(8190, 4).is_empty());
        assert!(again.word(8185).is_none() && again.word(4097).is_none() && again.word(8184).is_some());
        assert!(again.target(usize::MAX, 2).is_empty());
        let part = again.part(4096, 4096).expect("a half");
        assert_eq!(part.get(0, 4), b"kept");
        assert!(part.part(4095, 2).is_none() && part.word(4096).is_none());
        assert!(rustix::fs::ftruncate(&fd, 1).is_err(), "its size is sealed");
        let plain = rustix::fs::memfd_create(c"plain", MemfdFlags::CLOEXEC).expect("a file");
        rustix::fs::ftruncate(&plain, 4096).expect("room");
        assert!(Memory::open(&plain).is_err(), "one that could shrink is refused");
    }
}
