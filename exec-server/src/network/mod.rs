//! The managed network: a filtering proxy for each program that is started with one (section 13).

pub mod address;
pub mod host;
pub mod pattern;
pub mod policy;

#[cfg(test)]
mod tests;
