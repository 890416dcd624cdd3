//! File operations under a policy: done by helpers that are confined like programs, so that the kernel checks each path
//! when it is used, and not before.
//!
//! A helper opens, lists, copies and removes. What it opens it hands over as a descriptor, so that contents never pass
//! through it. Helpers are kept ready, one per policy, and end with their connection.

mod helper;
mod messages;
mod methods;
mod pool;
mod prepared;

pub(super) use helper::serve;
pub use pool::FileHelpers;
