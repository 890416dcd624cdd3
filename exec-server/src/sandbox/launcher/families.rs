//! Which sockets a filter lets be made, and what may be done with them.

use libc::c_long;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::filter::{Built, Rules, word};
use crate::sandbox::task::{NetworkWalls, Walls};

/// Which sockets there may be: in a network of its own those of the internet. With the machine's, but with files
/// restricted, none of the kinds that lead to other programs of this machine: nothing here can tell which of their files a
/// socket's peer would touch for one. Without network none. Unix sockets beside these where they are `named` by whoever
/// keeps them from others: what is asked of him does not come here first, but a refusal here counts for more.
pub(super) fn allow(walls: &Walls, named: bool, rules: &mut Rules) -> Built<()> {
    rules.insert(libc::SYS_socketpair, all_but_closed_pairs()?);
    let socket = match walls.network {
        NetworkWalls::Closed => {
            lead_nowhere(rules)?;
            if named {
                for call in BY_NAME {
                    rules.remove(&call);
                }
                all_but_closed_pairs()?
            } else {
                Vec::new()
            }
        }
        NetworkWalls::Own { .. } => all_but_internet(named)?,
        NetworkWalls::Open if walls.restricts_files() => all_but_open(named)?,
        NetworkWalls::Open => return Ok(()),
    };
    rules.insert(libc::SYS_socket, socket);
    Ok(())
}

/// Pairs of a kind whose ends stay joined for good lead nowhere but to who holds them. Those for datagrams can be sent from
/// to any name, and joined anew. (`SOCK_RAW` is the same there under another name.)
fn all_but_closed_pairs() -> Built<Vec<SeccompRule>> {
    let mut rules = vec![SeccompRule::new(vec![not(libc::AF_UNIX)?])?];
    rules.extend(all_kinds_but(&[libc::SOCK_STREAM, libc::SOCK_SEQPACKET])?);
    Ok(rules)
}

/// A socket's kind in its argument, which it shares with flags.
const KIND: u64 = 0xf;

/// Rules for every kind of socket in the second argument but these.
fn all_kinds_but(allowed: &[i32]) -> Built<Vec<SeccompRule>> {
    let allowed: Vec<u64> = allowed.iter().map(|kind| u64::from(kind.unsigned_abs())).collect();
    let others = (0..=KIND).filter(|kind| !allowed.contains(kind));
    others.map(|kind| SeccompRule::new(vec![word(1, SeccompCmpOp::MaskedEq(KIND), kind)?])).collect()
}

/// What gives a socket a name, or leads it to one.
const BY_NAME: [c_long; 3] = [libc::SYS_connect, libc::SYS_bind, libc::SYS_listen];

/// Takes names from the sockets that there are without network: pairs, and what came as stdin, stdout and stderr.
fn lead_nowhere(rules: &mut Rules) -> Built<()> {
    rules.extend(BY_NAME.map(|call| (call, Vec::new())));
    // To a name: the address of one is given. (`sendmsg` has it in memory, where a filter can't look.)
    let named = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    let fast_open = u64::from(libc::MSG_FASTOPEN.unsigned_abs());
    // Connects while it sends.
    let connecting =
        |flags| SeccompRule::new(vec![word(flags, SeccompCmpOp::MaskedEq(fast_open), fast_open)?]);
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![named])?, connecting(3)?]);
    rules.insert(libc::SYS_sendmsg, vec![connecting(2)?]);
    rules.insert(libc::SYS_sendmmsg, vec![connecting(3)?]);
    Ok(())
}

/// What is neither TCP nor UDP: other families, kinds and protocols reach code in the kernel that no program here needs.
fn all_but_internet(named: bool) -> Built<Vec<SeccompRule>> {
    let mut rules = vec![
        all_but(0, &[&[libc::AF_INET, libc::AF_INET6][..], unix(named)].concat())?,
        all_but(2, &[0, libc::IPPROTO_TCP, libc::IPPROTO_UDP])?,
    ];
    if named {
        rules.extend(unix_of_other_kinds()?);
        rules.extend(all_kinds_but(&[libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET])?);
        let packets = u64::from(libc::SOCK_SEQPACKET.unsigned_abs());
        let of_kind = word(1, SeccompCmpOp::MaskedEq(KIND), packets)?;
        rules.push(SeccompRule::new(vec![of_kind, not(libc::AF_UNIX)?])?);
    } else {
        rules.extend(all_kinds_but(&[libc::SOCK_STREAM, libc::SOCK_DGRAM])?);
    }
    Ok(rules)
}

/// What is neither the internet's nor asks the kernel for the machine's addresses, as name lookups do.
fn all_but_open(named: bool) -> Built<Vec<SeccompRule>> {
    let families = [&[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK][..], unix(named)].concat();
    let netlink = word(0, SeccompCmpOp::Eq, u64::from(libc::AF_NETLINK.unsigned_abs()))?;
    // NETLINK_ROUTE is 0.
    let mut rules =
        vec![all_but(0, &families)?, SeccompRule::new(vec![netlink, word(2, SeccompCmpOp::Ne, 0)?])?];
    if named {
        rules.extend(unix_of_other_kinds()?);
    }
    Ok(rules)
}

fn unix(named: bool) -> &'static [i32] {
    if named { &[libc::AF_UNIX] } else { &[] }
}

/// Datagrams between Unix sockets, which can be sent to any name.
fn unix_of_other_kinds() -> Built<Vec<SeccompRule>> {
    let allowed = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(|kind| u64::from(kind.unsigned_abs()));
    let others = (0..=KIND).filter(|kind| !allowed.contains(kind));
    let unix = || word(0, SeccompCmpOp::Eq, u64::from(libc::AF_UNIX.unsigned_abs()));
    others.map(|kind| SeccompRule::new(vec![unix()?, word(1, SeccompCmpOp::MaskedEq(KIND), kind)?])).collect()
}

fn not(family: i32) -> Built<SeccompCondition> {
    word(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()))
}

/// A rule for every value of an argument but these.
fn all_but(argument: u8, values: &[i32]) -> Built<SeccompRule> {
    let other = |value: &i32| word(argument, SeccompCmpOp::Ne, u64::from(value.unsigned_abs()));
    SeccompRule::new(values.iter().map(other).collect::<Built<_>>()?)
}
