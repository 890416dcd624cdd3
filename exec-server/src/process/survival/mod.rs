//! What outlives this process: each program's log in memory that a keeper holds, with its descriptors and a record of what it is,
//! and how the next server goes on with them.
//!
//! Without a keeper nothing of this is done. The words of a log's memory are in [`layout`], who writes it is [`journal`], who reads
//! what an earlier server left is [`replay`].

mod above;
mod clock;
mod ending;
mod handed;
mod journal;
mod keeper;
mod layout;
mod memory;
mod nursery;
pub(crate) mod record;
mod replay;
mod room;
mod safe;
mod store;
pub(crate) mod taking;

pub use self::above::Survival;
pub(in crate::process) use self::clock::boot_ms;
pub(in crate::process) use self::ending::read as read_ending;
pub use self::handed::{Adopted, Handed};
pub(in crate::process) use self::journal::Read;
pub(in crate::process) use self::layout::hash;
pub(crate) use self::record::session_hash;
pub(in crate::process) use self::replay::Found;
pub(crate) use self::safe::Held;
pub(in crate::process) use self::safe::{Kept, Safe};
pub use self::store::Store;

/// For fuzzing: reads what an earlier server may have left in a log's memory, and of a program and a session.
#[cfg(feature = "fuzzing")]
pub fn read_left(bytes: &[u8]) {
    let _ = (record::read::<record::ProcessRecord>(bytes), record::read::<record::SessionRecord>(bytes));
    let size = bytes.len().max(layout::HEAD).next_multiple_of(8);
    let Ok((memory, _)) = memory::Memory::create(size) else { return };
    memory.put(0, bytes);
    layout::set(&memory, layout::word::SCHEMA, layout::SCHEMA);
    if let Some((layout, found)) = replay::replay(&memory) {
        journal::Journal::resume(memory, layout, &found, None);
    }
}

#[cfg(test)]
mod tests;
