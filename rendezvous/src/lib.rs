//! A registry and rendezvous of one's own: brings executors and harnesses together without reading what they say.

pub mod frame;
pub mod limits;
pub mod outlet;
pub mod quota;
pub mod switch;
pub mod websocket;
