//! Where frames pass from one socket to another (`remote.md` 10, rendezvous 3 to 6).
//!
//! [`Switch`] is the seam at which several instances could later share a message broker: an implementation of it
//! brings a frame from a socket here to a socket there. [`InProcess`] is the one for a single process.

mod in_process;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::outlet::{Closing, Outlet};
use crate::quota::Quota;

pub use in_process::InProcess;

/// Brings frames from executors to harnesses and back. A *route* is an executor registration's id.
pub trait Switch: Send + Sync + 'static {
    /// Makes `outlet` the route's executor. One that was there is closed, and its harnesses with it.
    fn attach_executor(&self, route: &str, outlet: Arc<Outlet>) -> Box<dyn Port>;

    /// Joins a harness socket to the route; `None` while its executor is away.
    fn attach_harness(&self, route: &str, socket: HarnessSocket) -> Option<Box<dyn Port>>;

    /// Whether the route's executor is attached.
    fn is_attached(&self, route: &str) -> bool;

    /// Who uses the route.
    fn load(&self, route: &str) -> Load;

    /// Closes the route's executor and its harnesses.
    fn close(&self, route: &str, closing: Closing);
}

/// Who uses a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Harness sockets.
    pub harnesses: usize,
    /// Their streams.
    pub streams: usize,
}

/// A harness's side of a route.
#[derive(Debug)]
pub struct HarnessSocket {
    /// Where frames for it go.
    pub outlet: Arc<Outlet>,
    /// Streams of its token.
    pub streams: Arc<Quota>,
    /// Streams this socket may own.
    pub socket_streams: usize,
    /// Longest id of a stream it may open.
    pub stream_id_bytes: usize,
}

/// One socket's place in the switch; dropping it detaches the socket. An executor's harnesses are closed with
/// it; a harness's streams are reset at the executor.
pub trait Port: Send + Sync {
    /// Passes a frame on, unread but for its header. Order is kept.
    fn pass(&self, frame: Bytes) -> Passed;
}

/// What became of a frame.
#[derive(Debug)]
pub enum Passed {
    /// It is in the other socket's queue.
    Sent,
    /// Nobody is there to take it.
    Dropped(Dropped),
    /// The other socket's queue is full: push it there when there is room, and read no more until then.
    Full {
        /// The frame that waits.
        frame: Bytes,
        /// The queue that has no room.
        outlet: Arc<Outlet>,
        /// Whether other sockets wait for the same reader meanwhile.
        shared: bool,
    },
}

/// Why a frame went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Not a frame, another version, a blank id or no body.
    Malformed,
    /// No harness owns the stream.
    NoOwner,
    /// Another harness socket owns the stream.
    ForeignStream,
    /// The socket or its token has as many streams as it may.
    TooManyStreams,
    /// Too many handshakes of the socket have failed.
    FailedHandshakes,
    /// The id is too long.
    LongStreamId,
    /// The other socket is closing.
    Gone,
}

impl Dropped {
    /// One word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_frame",
            Self::NoOwner => "no_owner",
            Self::ForeignStream => "foreign_stream",
            Self::TooManyStreams => "too_many_streams",
            Self::FailedHandshakes => "failed_handshakes",
            Self::LongStreamId => "long_stream_id",
            Self::Gone => "peer_closing",
        }
    }
}
