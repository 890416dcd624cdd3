//! End-to-end tests over the built binary; one module for each topic.

mod handshake;
mod listen;
mod stdio;
mod unix;
