//! The three capabilities as traits, and what this machine is.

pub mod info;
pub mod local;
pub mod manager;
pub mod remote;
pub mod traits;

pub use local::{Local, LocalConfig};
pub use manager::{Environment, EnvironmentError, Environments};
pub use remote::Remote;
pub use traits::{CallError, Files, Http, Pieces, Processes};

#[cfg(test)]
mod tests;
