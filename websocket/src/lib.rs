//! The server's half of a websocket (RFC 6455), without I/O: the upgrade's head, frame heads, masks, control frames and
//! close codes.
//!
//! Payloads are not touched but for their mask: a reader unmasks them where they arrived, a writer sends them from where
//! they are. That is why this is our own code and not tungstenite's, which copies each message; the upgrade's key is
//! tungstenite's to derive.

pub mod close;
mod frame;
mod mask;
pub mod upgrade;

pub use frame::{CONTROL_BYTES, FrameError, HEAD_BYTES, Head, Opcode, head_size, write_head};
pub use mask::unmask;
