//! Which memory stays with this process: not the code and the constants that only its start needed, but room for the next
//! message.

#![allow(unsafe_code)]

use rustix::mm::{Advice, madvise};

/// Takes this process's code and constants out of its memory; what is used again comes back from the page cache, a few
/// microseconds for every 64 KiB. Relocation, flags and configuration walk through megabytes that serving never sees again.
pub(crate) fn forget_start() {
    let Ok(mappings) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in clean_mappings(&mappings) {
        // SAFETY: the range is one private mapping of a file that nobody has written to, so that the kernel reads the
        // same bytes from the file again (madvise(2), MADV_DONTNEED).
        let given_back =
            unsafe { madvise(std::ptr::with_exposed_provenance_mut(start), length, Advice::LinuxDontNeed) };
        if let Err(error) = given_back {
            tracing::debug!(%error, "can't give back the pages of the start");
        }
    }
}

/// The largest block that the allocator takes from its heap from now on, in bytes; it keeps twice as much of what was freed.
const KEPT: usize = 512 << 10;

/// Keeps the memory of a message for the next one. glibc gives back what is freed above 128 KiB at once and takes it again,
/// which under a flood costs a tenth of the throughput in page faults; but it learns from the largest block it has seen
/// (mallopt(3), `M_MMAP_THRESHOLD`). Setting the bound instead would end its learning, and large files pay for that.
pub(crate) fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT)));
}

/// Start and length of each mapping of code or constants that is as in its file (proc_pid_smaps(5)): neither writable nor
/// shared, and without pages of its own, which relocations, debuggers and hooks make by writing.
fn clean_mappings(mappings: &str) -> Vec<(usize, usize)> {
    let mut clean = Vec::new();
    let mut last = None;
    for line in mappings.lines() {
        if let Some(changed) = line.strip_prefix("Anonymous:") {
            let is_clean = changed.split_ascii_whitespace().next() == Some("0");
            clean.extend(last.take().filter(|_| is_clean));
        } else if line.split_ascii_whitespace().next().is_some_and(|first| !first.ends_with(':')) {
            last = unchanging(line);
        }
    }
    clean
}

/// Start and length of a mapping by its first line, if it is of a file and can't be written.
fn unchanging(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !matches!(fields.next()?, "r-xp" | "r--p") || !fields.nth(3)?.starts_with('/') {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_file_has_is_given_back() {
        for (line, expected) in [
            ("1000-3000 r-xp 00010000 fe:00 12 /usr/bin/codex", Some((0x1000, 0x2000))),
            ("1000-3000 r-xp 00010000 fe:00 12   /a b (deleted)", Some((0x1000, 0x2000))),
            ("1000-3000 r--p 00010000 fe:00 12 /usr/bin/codex", Some((0x1000, 0x2000))),
            ("1000-3000 rw-p 00010000 fe:00 12 /usr/bin/codex", None),
            ("1000-3000 rwxp 00010000 fe:00 12 /usr/bin/codex", None),
            ("1000-3000 r-xs 00010000 fe:00 12 /usr/bin/codex", None),
            ("1000-3000 r-xp 00000000 00:00 0 [vdso]", None),
            ("1000-3000 r-xp 00000000 00:00 0", None),
            ("3000-1000 r-xp 00010000 fe:00 12 /usr/bin/codex", None),
            ("", None),
        ] {
            assert_eq!(unchanging(line), expected, "{line}");
        }
    }

    #[test]
    fn what_somebody_has_changed_stays() {
        let mappings = "1000-3000 r-xp 0 fe:00 12 /usr/bin/codex\nSize: 8 kB\nAnonymous: 0 kB\nVmFlags: rd ex\n\
                        4000-5000 r-xp 0 fe:00 12 /hooked.so\nAnonymous:         4 kB\n\
                        6000-7000 rw-p 0 fe:00 12 /usr/bin/codex\nAnonymous: 0 kB\n";
        assert_eq!(clean_mappings(mappings), [(0x1000, 0x2000)]);
    }

    #[test]
    fn what_was_given_back_still_runs() {
        forget_start();
        assert_eq!(std::hint::black_box([3, 1, 2]).iter().max(), Some(&3));
    }
}
