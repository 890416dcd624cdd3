//! The three capabilities as traits, and what this machine is.

pub mod info;
