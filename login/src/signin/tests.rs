//! Sign-ins against a real issuer on loopback, with real callbacks.

mod answers;
mod browser;
mod callbacks;
mod device;
mod parts;
mod ports;
mod support;
