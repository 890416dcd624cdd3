//! End-to-end tests over the built binary; one module for each topic.

mod backpressure;
mod config;
mod dialects;
mod extensions;
mod files;
mod handshake;
mod http;
mod keyring;
mod leftovers;
mod limits;
mod listen;
mod login;
mod login_browser;
mod login_device;
mod login_keyring;
mod login_status;
mod logout;
mod order;
mod process;
mod resume;
mod run;
mod signals;
mod stdio;
mod terminal;
mod unix;
mod vectors;
