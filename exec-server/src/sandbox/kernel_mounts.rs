//! Where the kernel's own file systems are: what is written there sets the machine, and is no file.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// File systems whose files are controls of the kernel, or other processes.
const KINDS: [&[u8]; 22] = [
    b"proc",
    b"sysfs",
    b"cgroup",
    b"cgroup2",
    b"debugfs",
    b"tracefs",
    b"securityfs",
    b"selinuxfs",
    b"smackfs",
    b"apparmorfs",
    b"configfs",
    b"bpf",
    b"efivarfs",
    b"pstore",
    b"fusectl",
    b"binfmt_misc",
    b"resctrl",
    b"mqueue",
    b"nfsd",
    b"rpc_pipefs",
    b"xenfs",
    b"hypfs",
];
/// Where they are on every machine.
const USUAL: [&str; 2] = ["/proc", "/sys"];

/// The places, looked at again when a mount came or went.
#[derive(Debug, Default)]
pub(super) struct KernelMounts(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    table: File,
    places: Arc<[PathBuf]>,
}

impl KernelMounts {
    /// Where they are now, parents first. The same value as long as nothing was mounted or unmounted.
    pub(super) fn now(&self) -> Arc<[PathBuf]> {
        let mut seen = self.0.lock();
        if let Some(seen) = seen.as_ref().filter(|seen| !seen.has_changed()) {
            return Arc::clone(&seen.places);
        }
        let table = match seen.take() {
            Some(seen) => Ok(seen.table),
            None => File::open("/proc/self/mountinfo"),
        };
        let looked = table.and_then(|table| {
            let places = places(&read(&table)?);
            Ok(Seen { table, places })
        });
        // Without a table, asked for anew each time.
        looked.map_or_else(|_| places(b""), |looked| Arc::clone(&seen.insert(looked).places))
    }
}

impl Seen {
    /// Whether the kernel tells of a change since the last time that it was asked (proc_pid_mountinfo(5)).
    fn has_changed(&self) -> bool {
        let mut polled = [PollFd::new(&self.table, PollFlags::PRI)];
        let nothing = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        nothing != Ok(0)
    }
}

/// The whole of it, from the beginning.
fn read(table: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match table.read_at(&mut piece, text.len() as u64)? {
            0 => return Ok(text),
            more => text.extend_from_slice(&piece[..more]),
        }
    }
}

/// The usual ones, and those that a table names.
fn places(table: &[u8]) -> Arc<[PathBuf]> {
    let mut places: Vec<PathBuf> = USUAL.map(PathBuf::from).to_vec();
    places.extend(table.split(|byte| *byte == b'\n').filter_map(place));
    places.sort();
    places.dedup();
    places.into()
}

fn place(line: &[u8]) -> Option<PathBuf> {
    let Mounted { kind, point, .. } = Mounted::of(line)?;
    KINDS.contains(&kind.as_slice()).then_some(point)
}

/// A mount.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) kind: Vec<u8>,
    /// Which part of its file system it is.
    pub(super) root: OsString,
    pub(super) point: PathBuf,
}

impl Mounted {
    /// Of a line: `ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - KIND SOURCE ...`.
    fn of(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let (root, point) = (words.nth(3)?, words.next()?);
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        Some(Self { kind: kind.to_vec(), root: unescaped(root), point: unescaped(point).into() })
    }
}

/// All mounts of this process's mount namespace, as they are now.
///
/// # Errors
/// When `/proc` can't be read.
pub(super) fn all_mounted() -> io::Result<Vec<Mounted>> {
    let table = read(&File::open("/proc/self/mountinfo")?)?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(Mounted::of).collect())
}

/// Spaces, tabs, ends of line and backslashes are written as three octal digits.
fn unescaped(word: &[u8]) -> OsString {
    let mut text = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                text.push(byte);
                rest = &behind[3..];
            }
            None => {
                text.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn places_come_from_the_table_and_are_real_names() {
        let table = b"22 1 0:20 / /proc rw,relatime shared:5 - proc proc rw\n\
            23 1 0:21 / /srv/a\\040b/proc rw - proc proc rw\n\
            24 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n\
            25 24 0:5 / /sys/fs/cgroup rw master:3 propagate_from:2 - cgroup2 none rw\n\
            26 24 0:6 / /tmp rw - tmpfs proc rw\nbroken\n";
        let expected = ["/proc", "/srv/a b/proc", "/sys", "/sys/fs/cgroup"].map(PathBuf::from);
        assert_eq!(*places(table), expected);
        assert_eq!(*places(b""), USUAL.map(PathBuf::from));
    }

    #[test]
    fn they_are_looked_at_once() {
        let mounts = KernelMounts::default();
        let first = mounts.now();
        assert!(first.iter().any(|place| place == Path::new("/proc")));
        assert!(first.is_sorted());
        // Other programs may mount meanwhile; then it is only equal.
        assert_eq!(mounts.now(), first);
    }
}
