//! Who may do what: links that are good once, the sessions they are exchanged for, and their end.
//!
//! No I/O. A key is known by its hash alone, so that no copy of this memory opens anything.

mod book;
mod grant;
mod key;

pub(crate) use book::{Book, NoGrant, Wish};
pub(crate) use grant::{Grant, Role, Scope};
