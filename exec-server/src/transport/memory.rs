//! A connection inside the process, for the library's own client and for tests.

use tokio::io::{DuplexStream, duplex, split};

use super::carrier::{Carrier, Owner};
use super::frame::Framing;
use super::reader::MessageReader;
use crate::Limits;
use crate::observe::Peer;

/// What either direction holds before its writer waits. Chosen for speed.
const PIPE_BYTES: usize = 64 << 10;

/// A server's carrier and the client's end of it, with one message for each line and the default limits.
pub fn pair() -> (Carrier, DuplexStream) {
    pair_with(&Limits::default())
}

/// As [`pair`], with limits of one's own.
pub fn pair_with(limits: &Limits) -> (Carrier, DuplexStream) {
    let (server, client) = duplex(PIPE_BYTES);
    let (read, write) = split(server);
    let reader = MessageReader::lines(read, Vec::new(), limits);
    let (sink, owner, peer) = (Box::new(write), Owner::default(), Peer::default());
    (Carrier { reader, sink, framing: Framing::Lines, owner, peer }, client)
}
