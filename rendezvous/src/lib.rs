//! A registry and rendezvous of one's own: brings executors and harnesses together without reading what they say.

pub mod accounts;
pub mod frame;
pub mod limits;
pub mod metrics;
pub mod outlet;
pub mod quota;
pub mod registry;
pub mod socket;
pub mod store;
pub mod switch;
pub mod ticket;
pub mod tokens;
pub mod websocket;
