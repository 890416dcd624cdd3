//! The three capabilities as traits, and what this machine is.

pub mod info;
pub mod manager;
pub mod remote;
pub mod traits;

pub use manager::Environment;
pub use remote::Remote;
pub use traits::{CallError, Files, Http, Processes};
