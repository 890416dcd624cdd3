//! Which `ioctl` commands are allowed where no mount keeps files as they are: each file system has commands of its own that
//! change a file opened for reading, and nobody knows them all.

use seccompiler::{BpfProgram, sock_filter};

/// What programs ask of terminals, pipes, sockets and files without changing what is behind them.
const ALLOWED: [u32; 71] = [
    // Terminals: TCGETS to TCSETSF, TCGETA to TCSETAF, TCSBRK, TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCSCTTY, TIOCGPGRP,
    // TIOCSPGRP, TIOCOUTQ.
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x5405,
    0x5406,
    0x5407,
    0x5408,
    0x5409,
    0x540a,
    0x540b,
    0x540c,
    0x540d,
    0x540e,
    0x540f,
    0x5410,
    0x5411,
    // TIOCGWINSZ, TIOCSWINSZ, TIOCMGET, TIOCGSOFTCAR, FIONREAD, TIOCPKT, FIONBIO, TIOCNOTTY, TIOCGETD, TCSBRKP, TIOCGSID.
    0x5413,
    0x5414,
    0x5415,
    0x5419,
    0x541b,
    0x5420,
    0x5421,
    0x5422,
    0x5424,
    0x5425,
    0x5429,
    // TCGETS2 to TCSETSF2, TIOCGPTN, TIOCSPTLCK, TIOCGPTLCK, TIOCGPKT, TIOCGEXCL, TIOCGPTPEER.
    0x802c_542a,
    0x402c_542b,
    0x402c_542c,
    0x402c_542d,
    0x8004_5430,
    0x4004_5431,
    0x8004_5439,
    0x8004_5438,
    0x8004_5440,
    0x5441,
    // FIONCLEX, FIOCLEX, FIOASYNC, FIOQSIZE.
    0x5450,
    0x5451,
    0x5452,
    0x5460,
    // FIGETBSZ, FS_IOC_FIEMAP, FS_IOC_GETFLAGS and its 32-bit form, FS_IOC_FSGETXATTR, FS_IOC_GETVERSION, FS_IOC_GETFSLABEL,
    // FS_IOC_GETFSUUID, RNDGETENTCNT.
    0x0002,
    0xc020_660b,
    0x8008_6601,
    0x8004_6601,
    0x801c_581f,
    0x8008_7601,
    0x8100_9431,
    0x8011_1500,
    0x8004_5200,
    // Sockets: FIOGETOWN, SIOCGPGRP, SIOCATMARK, SIOCGSTAMP and SIOCGSTAMPNS in both forms.
    0x8903,
    0x8904,
    0x8905,
    0x8906,
    0x8907,
    0x8010_8906,
    0x8010_8907,
    // The machine's interfaces: SIOCGIFNAME, -CONF, -FLAGS, -ADDR, -DSTADDR, -BRDADDR, -NETMASK, -METRIC, -MTU, -HWADDR,
    // -INDEX, -TXQLEN, SIOCETHTOOL.
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8917,
    0x8919,
    0x891b,
    0x891d,
    0x8921,
    0x8927,
    0x8933,
    0x8942,
    0x8946,
];

/// Refuses all others with `EPERM`.
pub(super) fn refuse_others() -> BpfProgram {
    // Of `struct seccomp_data`: the call's number, and the low half of its second argument, which is all the kernel reads.
    const NUMBER: u32 = 0;
    let second = if cfg!(target_endian = "little") { 24 } else { 28 };
    let [load, equal, answer] = [
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    ]
    .map(|code| u16::try_from(code).unwrap_or(0));
    let statement = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let ioctl = u32::try_from(libc::SYS_ioctl).unwrap_or(0);
    let mut program = vec![
        statement(load, NUMBER),
        sock_filter { code: equal, jt: 1, jf: 0, k: ioctl },
        statement(answer, libc::SECCOMP_RET_ALLOW),
        statement(load, second),
    ];
    // Each leaps over those behind it and over the refusal.
    let leaps = (1..=u8::try_from(ALLOWED.len()).unwrap_or(u8::MAX)).rev();
    program.extend(ALLOWED.iter().zip(leaps).map(|(k, jt)| sock_filter { code: equal, jt, jf: 0, k: *k }));
    program.push(statement(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()));
    program.push(statement(answer, libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call: interprets the three kinds of instructions that there are.
    fn allows(call: libc::c_long, command: u32) -> bool {
        let program = refuse_others();
        let (mut at, mut held) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match u32::from(step.code) & 7 {
                libc::BPF_LD if step.k == 0 => held = u32::try_from(call).expect("a number"),
                libc::BPF_LD => held = command,
                libc::BPF_JMP => at += usize::from(if held == step.k { step.jt } else { step.jf }),
                _ => return step.k == libc::SECCOMP_RET_ALLOW,
            }
        }
    }

    #[test]
    fn each_command_of_the_list_is_allowed_and_no_other() {
        for command in ALLOWED {
            assert!(allows(libc::SYS_ioctl, command), "{command:x}");
        }
        for command in
            [0, 1, 0x5412, 0x541c, 0x4008_6602, 0x4008_6604, 0x660c, 0x4004_9409, 0xc018_9436, u32::MAX]
        {
            assert!(!allows(libc::SYS_ioctl, command), "{command:x}");
            assert!(allows(libc::SYS_read, command), "other calls are not looked at");
        }
    }
}
