//! The other direction: servers of the Model Context Protocol that only an environment reaches, for a client here.
//!
//! A server over HTTP is spoken to by the requests of the environment's machine, with its network and its names; one over
//! stdio runs there as a program. Both are transports of `rmcp`'s client, whatever way leads to the environment.

mod http;
mod program;

pub use http::{EnvironmentHttp, FarHeader, HttpSeamError};
pub use program::{ProgramTransport, start_server};
