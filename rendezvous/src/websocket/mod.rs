//! Reads and writes websocket messages (RFC 6455) to pass them on: large payloads are read
//! straight into the buffer that is written out again, and an idle socket holds no buffer at all.
//!
//! Our own code because this is the hot path: tungstenite copies each message into its output buffer, moves the
//! rest of it to the front after every partial write (a 16 MiB message would be moved 80 times), and keeps a
//! buffer as large as the largest message for each socket. The upgrade is tungstenite's.

mod reader;
mod writer;

pub use reader::{ClientMessage, ReadError, Reader};
pub use writer::Batch;

#[cfg(test)]
mod tests;
