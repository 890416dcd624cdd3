//! What a keeper and its servers say to each other: one message for each packet, whose descriptors come along with it.
//!
//! A message is a kind, the length of its head, the head, and bytes that nobody here reads. A peer of another build may know more
//! fields: what a head has beyond those known here is passed over, and what it lacks is none. Whether two peers understand
//! each other at all is said first ([`Hello`]), before anything is given up.

use std::time::Duration;

use rustix::process::Pid;

use crate::child_mark::Mark;
use crate::ending::{Ending, How};
use crate::origin::Origin;
use crate::procfs::StartTime;

/// The most bytes that an entry may have, its descriptors not counted. What is longer belongs into a memory file.
/// A safeguard, far from any real use.
pub const MOST_BYTES: usize = 64 << 10;
/// The most descriptors of one entry (`SCM_MAX_FD`). Fixed by the kernel.
pub const MOST_DESCRIPTORS: usize = 253;
/// The most bytes of a message: kind, length, head and bytes. Fixed by the wire.
pub(super) const MOST_MESSAGE: usize = 2 + u8::MAX as usize + MOST_BYTES;

/// The number of this way of speaking. A peer with another one is refused.
pub(super) const WIRE: u16 = 1;

/// One thing in a keeper's store. No key is used twice in a keeper's life, whichever server made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(super) u64);

impl Key {
    /// What the guard's pipe is kept under.
    pub(super) const GUARD: Self = Self(0);

    /// The key that has this number, for entries that name others.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The key as a number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What tells a program's processes from others': for the keeper, which waits for its end, and for the next server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kin {
    pub(super) pid: Pid,
    /// The first process of its PID namespace, if it has one.
    pub(super) init: Option<Pid>,
    pub(super) mark: Option<Mark>,
    pub(super) started: StartTime,
}

impl Kin {
    /// Of a program that this process has started, and not reaped.
    #[must_use]
    pub fn of(pid: Pid, origin: Origin) -> Self {
        let init = crate::list::children().init_of(pid);
        Self { pid, init, mark: origin.mark, started: origin.started }
    }

    /// The program's process.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// What tells its orphans from others', for a server that has adopted it.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        Origin { started: self.started, mark: self.mark, adopted: true }
    }
}

/// What a server writes into its entries, and what it can read of others': numbers that grow, and bits of what else has to
/// be understood. The keeper compares them, and knows no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schema {
    /// The number of what this server writes.
    pub writes: u16,
    /// The smallest number that it reads.
    pub reads_from: u16,
    /// Bits of features: those that its entries use, and that it understands.
    pub features: u32,
}

impl Schema {
    /// Whether this server can read what one with the other schema has written.
    #[must_use]
    pub const fn reads(&self, other: &Self) -> bool {
        other.writes >= self.reads_from && other.writes <= self.writes && other.features & !self.features == 0
    }
}

/// What is said by one of the two to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message<'m> {
    /// The first word of a server.
    Hello { wire: u16, schema: Schema },
    /// The keeper's answer, before it hands over what it holds.
    Welcome(Welcome),
    /// From the server: to be kept, with the descriptors that come along, instead of what had the key. From the keeper: what
    /// was kept.
    Entry { key: Key, program: Option<Kin>, end: Option<Ending>, bytes: &'m [u8] },
    /// Everything is handed over.
    All,
    /// These bytes instead of those that the entry has.
    Update { key: Key, bytes: &'m [u8] },
    /// The entry is no longer needed.
    Forget { key: Key },
    /// What has this mark was left running on purpose.
    Left { mark: u64 },
    /// The server has taken over what it was handed, and serves.
    Serving,
    /// The server is about to end, and none is to follow.
    Ending,
    /// A program that was adopted has ended.
    Ended { key: Key, end: Ending },
    /// To a server that another one is to follow: let clients go, and say when that is done.
    Suspend,
    /// It is done.
    Suspended,
    /// No other one follows: go on.
    GoOn,
    /// A word that this build does not know.
    Unknown,
}

/// What a server that others came before has to know first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) wire: u16,
    /// The number in the marks of all servers of this keeper.
    pub(super) marks: u32,
    /// No program has had this mark's number, nor any beyond it.
    pub(super) next_mark: u32,
    /// No entry has had this key's number, nor any beyond it.
    pub(super) next_key: u64,
}

/// A message that no build can have meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message between keeper and server is cut short, or has a value that can't be")]
pub(super) struct Malformed;

/// The kinds of messages, as numbers that never change.
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const ENTRY: u8 = 3;
    pub(super) const ALL: u8 = 4;
    pub(super) const UPDATE: u8 = 5;
    pub(super) const FORGET: u8 = 6;
    pub(super) const LEFT: u8 = 7;
    pub(super) const SERVING: u8 = 8;
    pub(super) const ENDING: u8 = 9;
    pub(super) const ENDED: u8 = 10;
    pub(super) const SUSPEND: u8 = 11;
    pub(super) const SUSPENDED: u8 = 12;
    pub(super) const GO_ON: u8 = 13;
}

/// How an end is told: one byte before its numbers.
mod how {
    pub(super) const NONE: u8 = 0;
    pub(super) const EXITED: u8 = 1;
    pub(super) const KILLED: u8 = 2;
    pub(super) const KILLED_WITH_CORE: u8 = 3;
}

impl<'m> Message<'m> {
    /// All but the bytes, which follow.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = Head(vec![self.kind(), 0]);
        match self {
            Self::Hello { wire, schema } => {
                head.u16(*wire).u16(schema.writes).u16(schema.reads_from).u32(schema.features);
            }
            Self::Welcome(welcome) => {
                head.u16(welcome.wire).u32(welcome.marks).u32(welcome.next_mark).u64(welcome.next_key);
            }
            Self::Entry { key, program, end, .. } => {
                head.u64(key.0).program(program.as_ref()).end(end.as_ref());
            }
            Self::Update { key, .. } | Self::Forget { key } => {
                head.u64(key.0);
            }
            Self::Left { mark } => {
                head.u64(*mark);
            }
            Self::Ended { key, end } => {
                head.u64(key.0).end(Some(end));
            }
            _ => {}
        }
        head.done()
    }

    /// What follows the head.
    pub(super) fn bytes(&self) -> &'m [u8] {
        match self {
            Self::Entry { bytes, .. } | Self::Update { bytes, .. } => bytes,
            _ => &[],
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Welcome(_) => kind::WELCOME,
            Self::Entry { .. } => kind::ENTRY,
            Self::All => kind::ALL,
            Self::Update { .. } => kind::UPDATE,
            Self::Forget { .. } => kind::FORGET,
            Self::Left { .. } => kind::LEFT,
            Self::Serving => kind::SERVING,
            Self::Ending => kind::ENDING,
            Self::Ended { .. } => kind::ENDED,
            Self::Suspend => kind::SUSPEND,
            Self::Suspended => kind::SUSPENDED,
            Self::GoOn => kind::GO_ON,
            Self::Unknown => 0,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn parse(packet: &'m [u8]) -> Result<Self, Malformed> {
        let [kind, length, rest @ ..] = packet else { return Err(Malformed) };
        let (head, bytes) = rest.split_at_checked(usize::from(*length)).ok_or(Malformed)?;
        if bytes.len() > MOST_BYTES {
            return Err(Malformed);
        }
        let mut fields = Fields(head);
        Ok(match *kind {
            kind::HELLO => Self::Hello {
                wire: fields.u16()?,
                schema: Schema { writes: fields.u16()?, reads_from: fields.u16()?, features: fields.u32()? },
            },
            kind::WELCOME => Self::Welcome(Welcome {
                wire: fields.u16()?,
                marks: fields.u32()?,
                next_mark: fields.u32()?,
                next_key: fields.u64()?,
            }),
            kind::ENTRY => {
                Self::Entry { key: Key(fields.u64()?), program: fields.program()?, end: fields.end()?, bytes }
            }
            kind::ALL => Self::All,
            kind::UPDATE => Self::Update { key: Key(fields.u64()?), bytes },
            kind::FORGET => Self::Forget { key: Key(fields.u64()?) },
            kind::LEFT => Self::Left { mark: fields.u64()? },
            kind::SERVING => Self::Serving,
            kind::ENDING => Self::Ending,
            kind::ENDED => Self::Ended { key: Key(fields.u64()?), end: fields.end()?.ok_or(Malformed)? },
            kind::SUSPEND => Self::Suspend,
            kind::SUSPENDED => Self::Suspended,
            kind::GO_ON => Self::GoOn,
            _ => Self::Unknown,
        })
    }
}

/// A head that is being written.
struct Head(Vec<u8>);

impl Head {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    fn i32(&mut self, number: i32) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    /// No program has the number 0.
    fn program(&mut self, program: Option<&Kin>) -> &mut Self {
        let pid = |pid: Option<Pid>| pid.map_or(0, Pid::as_raw_pid);
        self.i32(pid(program.map(|kin| kin.pid)));
        self.i32(pid(program.and_then(|kin| kin.init)));
        self.u64(program.and_then(|kin| kin.mark).map_or(0, Mark::number));
        self.u64(program.map_or(0, |kin| kin.started.0))
    }

    fn end(&mut self, end: Option<&Ending>) -> &mut Self {
        let Some(end) = end else { return self.put(&[how::NONE]) };
        let (how, number) = match end.how {
            How::Exited(code) => (how::EXITED, code),
            How::Killed(signal) if end.core_dumped => (how::KILLED_WITH_CORE, signal),
            How::Killed(signal) => (how::KILLED, signal),
        };
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.put(&[how]).i32(number);
        self.u64(micros(end.cpu_user)).u64(micros(end.cpu_system)).u64(end.max_rss_bytes)
    }

    /// With its length at its place.
    fn done(mut self) -> Vec<u8> {
        let length = u8::try_from(self.0.len() - 2).unwrap_or(u8::MAX);
        if let Some(place) = self.0.get_mut(1) {
            *place = length;
        }
        self.0
    }
}

/// A head that is being read.
struct Fields<'m>(&'m [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.take().map(i32::from_le_bytes)
    }

    fn pid(&mut self) -> Result<Option<Pid>, Malformed> {
        match self.i32()? {
            number if number < 0 => Err(Malformed),
            number => Ok(Pid::from_raw(number)),
        }
    }

    fn program(&mut self) -> Result<Option<Kin>, Malformed> {
        let (pid, init) = (self.pid()?, self.pid()?);
        let (mark, started) = (Mark::from_number(self.u64()?), StartTime(self.u64()?));
        Ok(pid.map(|pid| Kin { pid, init, mark, started }))
    }

    /// None where the head ends before it.
    fn end(&mut self) -> Result<Option<Ending>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let [how] = self.take()?;
        if how == how::NONE {
            return Ok(None);
        }
        let number = self.i32()?;
        let how_ended = match how {
            how::EXITED => How::Exited(number),
            how::KILLED | how::KILLED_WITH_CORE => How::Killed(number),
            _ => return Err(Malformed),
        };
        Ok(Some(Ending {
            how: how_ended,
            core_dumped: how == how::KILLED_WITH_CORE,
            cpu_user: Duration::from_micros(self.u64()?),
            cpu_system: Duration::from_micros(self.u64()?),
            max_rss_bytes: self.u64()?,
        }))
    }
}

/// For the fuzzer: reads a packet, and holds that what was read is written as it was read.
#[cfg(any(test, feature = "testing"))]
pub fn check_packet(packet: &[u8]) {
    let Ok(message) = Message::parse(packet) else { return };
    if message == Message::Unknown {
        return;
    }
    let mut again = message.head();
    again.extend_from_slice(message.bytes());
    assert_eq!(Message::parse(&again), Ok(message), "written as it was read");
}

#[cfg(test)]
mod tests;
