//! Reaches an exec-server: connects, calls, follows output, resumes.
//!
//! One driver task owns the connection. Calls reach it through a bounded queue; what arrives is routed to the call,
//! the process or the HTTP body it belongs to. When the connection is lost and the endpoint can be reached again
//! (websocket, Unix socket), the driver resumes the session and fills what was missed (section 15.4).
//!
//! **Back-pressure.** Each process and each body has a queue. Once it holds [`ClientOptions::queue_bytes`], the
//! driver stops reading the socket until its follower takes something, so that a slow follower slows the program
//! and memory stays bounded. While some call waits for its answer, the driver reads on up to
//! [`ClientOptions::queue_bytes_with_calls`]: an answer lies behind at most a socket's worth of output, so a task
//! that calls without draining first does not wait for itself.

mod body;
mod calls;
mod carry;
mod dial;
mod driver;
mod environments;
mod error;
mod handshake;
mod inbox;
mod options;
mod order;
mod process;
#[cfg(test)]
mod relay_tests;
mod remote;
#[cfg(test)]
mod scripted;
mod session;
mod shared;
mod tcp;
#[cfg(test)]
mod tests;
mod traffic;

pub use body::Body;
pub use carry::{CarryEnd, carry};
pub use dial::{Command, Connector, Endpoint, FromServer, RegistryEnvironment, Stderr, ToServer};
pub use environments::{Dial, EnvironmentError, Environments, LOCAL, State, Status};
pub use error::ClientError;
pub use options::{ClientOptions, Rest};
pub use process::{Exit, ProcessControl, RemoteProcess};
pub use remote::Remote;
pub use session::Client;
pub use tcp::{JoinError, RemoteListener, RemoteStream};

pub use crate::environment::ProcessEvent;
