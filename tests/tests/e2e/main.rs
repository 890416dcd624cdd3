//! End-to-end tests over the built binary; one module for each topic.

mod backpressure;
mod handshake;
mod listen;
mod order;
mod process;
mod signals;
mod stdio;
mod terminal;
mod unix;
