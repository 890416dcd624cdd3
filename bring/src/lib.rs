//! Brings this program to a machine that has a shell and nothing else, and runs it there on the connection's stdin and stdout.
//!
//! The way there is one of the system's own programs, or several in a row: `ssh`, `docker exec`, `kubectl exec`, each with the
//! user's configuration. Over it one line of shell is run (`script.rs`). It looks for the program by its hash, asks for the bytes
//! where it is missing, and becomes the server. So a first command and a later one cost one connection each, and what runs over
//! there ends with it.

mod connection;
mod error;
mod payload;
mod script;
mod stderr;
mod target;
mod way;

pub use connection::{Connection, Event, FromFar, Request, Tell, ToFar, ask, connect};
pub use error::{BringError, Failure};
pub use script::{Served, refuse_directory};
pub use target::{Hop, Target, TargetError};
