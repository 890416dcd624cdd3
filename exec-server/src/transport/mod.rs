//! Carries text messages: websocket, Unix socket, stdio, in-process, virtual stream; the listener.

pub mod address;
pub mod auth;
mod bind_error;
mod bound;
mod carrier;
mod event;
mod fragments;
pub mod frame;
mod http;
mod inherited;
mod inlet;
mod jwt;
pub mod listener;
pub mod memory;
mod parts;
pub mod reader;
mod socket_file;
pub mod stdio;
pub mod stream;
mod waiting_room;

pub use address::{AddressError, ListenAddress};
pub use auth::{Auth, AuthConfig, AuthError};
pub use bind_error::BindError;
pub use bound::Bound;
pub use carrier::{Carrier, Owner};
pub use event::{PeerEvent, ReadError};
pub use fragments::{Fragments, Piece};
pub use frame::{FrameBuffer, Framing};
pub use inherited::address_of;
pub use inlet::Inlet;
pub use listener::{Listener, Pending};
pub use parts::Parts;
pub use reader::MessageReader;
pub use stream::{Outbound, Outlet, StreamBounds};

#[cfg(feature = "fuzzing")]
use crate::observe::Observer;

/// For fuzzing: what a listener that lets everybody in answers to the first bytes of a connection, and how many of them
/// that answers; none as long as it waits for more.
#[cfg(feature = "fuzzing")]
pub fn first_answer(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    match http::respond(bytes, &Auth::open(), &Observer::default(), std::time::SystemTime::UNIX_EPOCH) {
        http::Outcome::Upgrade { answer, head, .. } | http::Outcome::Answer { answer, head, .. } => {
            Some((answer, head))
        }
        http::Outcome::Partial => None,
    }
}
