//! Makes a client's connections: straight to a server, to a child, or through a registry and a rendezvous.

mod connector;
mod endpoint;
mod link;
mod pings;
mod relayed;
mod route;
mod websocket;

pub use crate::registry::RegistryEnvironment;
pub use connector::{Connector, FromServer, ToServer};
pub use endpoint::{Command, Endpoint, Stderr};

pub(super) use endpoint::{Again, Link, OpenError};
pub(super) use link::{LinkReader, LinkWriter, lines};
