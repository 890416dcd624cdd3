//! Starts programs, marks them and what they start, watches them, reaps them, and ends whole trees of them.
//!
//! The ground floor: it knows the kernel and nothing of sandboxes, of the protocol, or of who asks.

mod child_mark;
pub mod descriptor;
pub mod descriptor_limit;
mod ending;
pub mod groups;
pub mod guard;
pub mod keeper;
mod list;
pub mod lookup;
mod origin;
pub mod orphans;
mod platform;
#[cfg(any(feature = "portable", not(target_os = "linux")))]
mod portable;
pub mod posix;
mod procfs;
pub mod reap;
pub mod signals;
pub mod spawn;
pub mod streams;
pub mod supervision;
pub mod terminal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tree;
#[cfg(not(any(feature = "portable", not(target_os = "linux"))))]
mod vfork;

pub use list::{Role, becomes_program};

#[cfg(test)]
mod tests;
