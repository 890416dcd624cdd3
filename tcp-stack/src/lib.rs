//! The user-space end of a program's network device: takes the packets that the program's kernel sends, and makes TCP
//! connections of them, each carried to one that somebody else has opened. Names resolve to addresses of its own, so that
//! who opens the connection hears the name.
//!
//! It decides nothing and opens nothing: it asks over a socket, and is given a connected one or a refusal. So it can run
//! in a process that may do nothing itself.

mod carried;
mod device;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod link;
mod names;
mod packet;
mod questions;
mod resolver;
mod service;
mod setup;

pub use link::{Ask, Given, StackEnd, answer, give, next_question, pair};
pub use service::{Bounds, serve};
pub use setup::{DEVICE_AT, make};
