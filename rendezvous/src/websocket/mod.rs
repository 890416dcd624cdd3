//! The server's half of websocket frames (RFC 6455), made for passing messages on: large payloads are read
//! straight into the buffer that is written out again, and an idle socket holds no buffer at all.
//!
//! Our own code because this is the hot path: tungstenite copies each message into its output buffer, moves the
//! rest of it to the front after every partial write (a 16 MiB message would be moved 80 times), and keeps a
//! buffer as large as the largest message for each socket. The upgrade is tungstenite's.

mod reader;
mod writer;

pub use reader::{Event, ReadError, Reader};
pub use writer::Batch;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Longest payload of a control frame (RFC 6455, 5.5).
const CONTROL_BYTES: usize = 125;

#[cfg(test)]
mod tests;
