//! `statx`, and an older way where it is not to be had.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// What `stat` tells, of what `statx` can.
const KNOWN: StatxFlags = StatxFlags::BASIC_STATS;

/// The facts about a name, as [`rustix::fs::statx`] gives them. Kernels before 4.11, and filters that don't know the call,
/// leave those of `stat`: without a birth and without a mount, as `stx_mask` says.
///
/// # Errors
/// The system's.
pub(crate) fn statx(
    directory: impl AsFd,
    path: impl Arg + Copy,
    flags: AtFlags,
    wanted: StatxFlags,
) -> Result<Statx, Errno> {
    match rustix::fs::statx(&directory, path, flags, wanted) {
        // No name is answered with EPERM by a kernel that has the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            by_stat(directory, path, flags & (AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH))
        }
        found => found,
    }
}

fn by_stat(directory: impl AsFd, path: impl Arg, flags: AtFlags) -> Result<Statx, Errno> {
    let found = statat(directory, path, flags)?;
    // SAFETY: it is integers, of which all zero is a value.
    #[allow(unsafe_code)]
    let mut facts = unsafe { MaybeUninit::<Statx>::zeroed().assume_init() };
    facts.stx_mask = KNOWN.bits();
    // The kernel keeps no more bits of it.
    facts.stx_mode = u16::try_from(found.st_mode).unwrap_or_default();
    facts.stx_ino = found.st_ino;
    facts.stx_size = u64::try_from(found.st_size).unwrap_or_default();
    facts.stx_dev_major = rustix::fs::major(found.st_dev);
    facts.stx_dev_minor = rustix::fs::minor(found.st_dev);
    facts.stx_mtime.tv_sec = found.st_mtime;
    facts.stx_mtime.tv_nsec = u32::try_from(found.st_mtime_nsec).unwrap_or_default();
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use codex_children::testing::refuse_calls;
    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn what_stat_tells_is_what_statx_tells() {
        let wanted = KNOWN;
        for name in ["/etc/passwd", "/proc/self/exe", "/", "/dev/null"] {
            for flags in [AtFlags::empty(), AtFlags::SYMLINK_NOFOLLOW] {
                let whole = statx(CWD, name, flags, wanted).expect("it is there");
                for errno in [libc::ENOSYS, libc::EPERM] {
                    let refused = std::thread::spawn(move || {
                        refuse_calls(&[libc::SYS_statx], errno);
                        (statx(CWD, name, flags, wanted), statx(CWD, "/no/such", flags, wanted).err())
                    });
                    let (facts, missing) = refused.join().expect("no panic");
                    let facts = facts.expect("it is there");
                    let of = |facts: &Statx| {
                        let device = (facts.stx_dev_major, facts.stx_dev_minor);
                        (facts.stx_mode, facts.stx_ino, facts.stx_size, device, facts.stx_mtime.tv_sec)
                    };
                    // A link of /proc is another for another thread.
                    if name != "/proc/self/exe" || flags.is_empty() {
                        assert_eq!(of(&facts), of(&whole), "{name} {flags:?}");
                    }
                    assert_eq!(missing, Some(Errno::NOENT));
                }
            }
        }
    }
}
