//! End-to-end tests over the built binary; one module for each topic.

mod backpressure;
mod dialects;
mod extensions;
mod files;
mod handshake;
mod http;
mod leftovers;
mod limits;
mod listen;
mod order;
mod process;
mod resume;
mod run;
mod sandbox;
mod signals;
mod stdio;
mod terminal;
mod unix;
mod vectors;
