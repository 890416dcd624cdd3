//! The managed network: a filtering proxy for each program that is started with one (section 13).
//!
//! What may be reached is decided in [`policy`], from the request's rules alone; who is asked and told beyond them is an
//! [`Overseer`].

pub mod address;
mod connection_slots;
mod datagrams;
mod dial;
pub mod host;
mod hosts_file;
mod http;
mod judge;
mod overseer;
pub mod pattern;
pub mod policy;
pub(crate) mod proxy;
mod socks;
pub(crate) mod transparent;
mod tunnel;
mod upstream;
pub(crate) mod variables;

#[cfg(test)]
mod tests;

pub use overseer::{Overseer, SessionNetwork};
pub use upstream::Upstream;
