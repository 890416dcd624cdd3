//! The relay (`remote.md` sections 4, 7, 8 and 9): frames, virtual streams, their state machines, the encrypted channel.
//!
//! Nothing here does I/O or knows a clock: a machine is handed the websocket's messages and the time, gives
//! [`RelayEvent`]s to act on, and is asked for the next frame whenever the socket takes one. So the streams have fair
//! turns: a frame of each stream that has something to send, then the next of the first, whatever their sizes.

mod event;
mod executor;
mod failures;
pub mod frame;
mod harness;
pub mod header;
mod json;
mod limits;
mod noise;
mod noise_streams;
mod open_streams;
mod plain_streams;
mod queue;
mod stream_id;

pub use event::{Handshake, RelayEvent, Verdict};
pub use executor::ExecutorStreams;
pub use frame::EXECUTOR_STOPPED;
pub use harness::{HarnessError, HarnessStream, Target};
pub use limits::RelayLimits;
pub use noise::{Identity, NoiseError};
pub use queue::SendError;
pub use stream_id::{StreamId, StreamKey};
