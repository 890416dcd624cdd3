//! The process above a server: it holds what must outlive the server, and starts it again when it dies.
//!
//! Whoever starts the program is the keeper from then on; the server is its child, made by a fork while there is one thread
//! and nothing but a parsed command line. So a server that is started again begins where the first one did, with the same
//! flags, settings and listening socket, and reads nothing anew. The keeper itself does nothing but wait: it has no event
//! loop, reads no message of a client, and knows no secret that a file holds.
//!
//! It takes the orphans of a server that died, and with them the programs; what the server has put into its [`Store`] it hands to
//! the next one, with the ends of programs that came meanwhile. What carries a mark of the server and was not put there is
//! ended: nobody was told of it yet.
//!
//! Signals that ask for an end are handed on, and the server's exit code is the keeper's. If the keeper dies, the server sees
//! it ([`Word::Gone`]) and ends in order.

pub(crate) mod above;
mod below;
mod deaths;
mod keep;
mod server;
mod shelf;
mod socket;
mod store;
mod upgrade;
mod wire;

pub use above::is_above;
pub use deaths::Death;
pub use keep::{Employer, Kept, News, keep};
pub use server::{Server, Word, is_kept};
pub use store::{Adopted, Entry, Put, Store};
pub use upgrade::{Answer, HANDED_LISTENER, Program, Refusal, upgrade_signal};
#[cfg(any(test, feature = "testing"))]
pub use wire::check_packet;
pub use wire::{Key, Kin, MOST_BYTES, MOST_DESCRIPTORS, Schema};

#[cfg(test)]
mod tests;
