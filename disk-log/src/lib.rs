//! Logs of programs' output on disk: files and records, no runtime, no protocol, no clock.
//!
//! ```text
//! STATE/                       0700; files 0600
//!   lock                       held for each change of the index, by whoever makes it
//!   owners/OWNER               held by a server as long as it lives: so its unended logs are known from a dead one's
//!   index                      the logs that ended, in the order of their ends, one entry of a fixed size each
//!   open/ID/, ended/ID/        one directory for each log:
//!     start                      one record: whose log it is, and what the writer says about the program
//!     SEQ-OFFSET.log             segments: records of output, named by the first of them
//!     end                        one record: how it ended
//! ```
//!
//! A record says its kind, sequence number, byte offset and time, and has two checksums: one of its head, which says where the
//! next begins, and one of its content. So a damaged content costs that record only, and a damaged head is passed over
//! by looking for the next one. The checksums are salted for each log: a program that prints what looks like a
//! record can't have it taken for one.
//!
//! Output is left to the page cache, which survives the process; the records of an end are synced, since they are what a
//! power cut must not take. What a power cut has left of a segment is read up to its last whole record.

mod directory;
mod error;
mod index;
mod position;
mod reader;
mod record;
mod scan;
mod start;
mod store;
mod sweep;
mod writer;

pub use directory::Directory;
pub use error::{LogError, LogId};
pub use index::Entry;
pub use position::Position;
pub use reader::{From, LogReader, Loss, LossCause, Page};
pub use record::{Head, Kind, Record};
pub use scan::{Found, Scanner, Source};
pub use start::{End, Outcome, Start};
pub use store::{Bounds, Listed, Store};
pub use sweep::{Recovered, Swept};
pub use writer::{LogWriter, Piece};
