//! A filter that finds a call by its number in a few steps, for the few that it does not allow.
//!
//! The kernel tries each new filter out for every call that it knows, once for every program. A list that is gone through from its
//! beginning takes a quarter of a millisecond of that; a search, next to nothing.

use seccompiler::{BpfProgram, sock_filter};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The kernel does it.
    Allowed,
    /// It fails with this errno.
    Fails(i32),
    /// The filter behind looks at its arguments.
    LookedAt,
}

/// Where `struct seccomp_data` has the call's number and the kind of machine that it is numbered for.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;

/// The kind of machine (`linux/audit.h`) whose numbers these are.
#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const OURS: u32 = 0xc000_00f3;

/// A filter by ranges of numbers, in order: each begins with its number and ends before the next; the first begins with 0. For
/// those that are looked at `behind` decides, a whole filter. Numbers of another kind of machine kill the process.
pub(super) fn search(ranges: &[(u32, Fate)], behind: &BpfProgram) -> BpfProgram {
    let mut program = vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, MACHINE),
        leap(libc::BPF_JEQ, OURS, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER),
    ];
    let always = leap(libc::BPF_JA, 0, 0, 0);
    program.extend(tree(ranges));
    let end = program.len();
    for (at, step) in program.iter_mut().enumerate() {
        if step.code == always.code && step.k == TO_BEHIND {
            step.k = u32::try_from(end - at - 1).unwrap_or(0);
        }
    }
    program.extend_from_slice(behind);
    program
}

/// Stands for the way to the filter behind until that is known.
const TO_BEHIND: u32 = u32::MAX;

/// Halves the ranges until one is left.
fn tree(ranges: &[(u32, Fate)]) -> BpfProgram {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let (Some(_), Some((middle, _))) = (left.first(), right.first()) else {
        return ranges.first().map(|(_, fate)| leaf(*fate)).into_iter().collect();
    };
    let below = tree(left);
    let mut steps = match u8::try_from(below.len()) {
        Ok(over) => vec![leap(libc::BPF_JGE, *middle, over, 0)],
        // A leap by a condition is short.
        Err(_) => vec![
            leap(libc::BPF_JGE, *middle, 0, 1),
            leap(libc::BPF_JA, u32::try_from(below.len()).unwrap_or(0), 0, 0),
        ],
    };
    steps.extend(below);
    steps.extend(tree(right));
    steps
}

fn leaf(fate: Fate) -> sock_filter {
    let answer = |answer| statement(libc::BPF_RET | libc::BPF_K, answer);
    match fate {
        Fate::Allowed => answer(libc::SECCOMP_RET_ALLOW),
        Fate::Fails(errno) => answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        Fate::LookedAt => leap(libc::BPF_JA, TO_BEHIND, 0, 0),
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k }
}

fn leap(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { jt, jf, ..statement(libc::BPF_JMP | condition | libc::BPF_K, k) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: interprets what there is in such a filter, where `behind` is one statement.
    fn answer(program: &BpfProgram, machine: u32, number: u32) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let code = u32::from(step.code);
            let short = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match (code & 7, code & 0xf0) {
                (libc::BPF_LD, _) => held = if step.k == NUMBER { number } else { machine },
                (libc::BPF_JMP, libc::BPF_JA) => at += usize::try_from(step.k).expect("a length"),
                (libc::BPF_JMP, libc::BPF_JEQ) => at += short(held == step.k),
                (libc::BPF_JMP, libc::BPF_JGE) => at += short(held >= step.k),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn each_number_is_found_in_its_range() {
        const BEHIND: u32 = 0x1234;
        let behind = vec![statement(libc::BPF_RET | libc::BPF_K, BEHIND)];
        // As many as a short leap can take over, and more.
        for count in [1_u32, 2, 3, 7, 128, 129, 300, 700] {
            let fates = [Fate::Allowed, Fate::Fails(libc::EPERM), Fate::LookedAt, Fate::Fails(libc::ENOSYS)];
            let ranges: Vec<_> =
                (0..count).zip(fates.into_iter().cycle()).map(|(at, fate)| (3 * at, fate)).collect();
            let program = search(&ranges, &behind);
            for number in (0..3 * count + 5).chain([u32::MAX]) {
                let (_, fate) = ranges.iter().rfind(|(from, _)| *from <= number).expect("the first is 0");
                let expected = match fate {
                    Fate::Allowed => libc::SECCOMP_RET_ALLOW,
                    Fate::Fails(errno) => libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(),
                    Fate::LookedAt => BEHIND,
                };
                assert_eq!(answer(&program, OURS, number), expected, "{number} of {count}");
                assert_eq!(answer(&program, OURS ^ 1, number), libc::SECCOMP_RET_KILL_PROCESS);
            }
        }
    }
}
