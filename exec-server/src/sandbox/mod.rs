//! What a program or a file operation may touch, and how the kernel is made to enforce it (section 14).
//!
//! [`resolve`] turns the client's profile into a [`Policy`], one plain value.

mod error;
mod globs;
mod old_form;
mod place;
mod policy;
mod resolve;

#[cfg(test)]
mod tests;

pub use error::PolicyError;
pub use old_form::{Unwrapped, unwrap};
pub use policy::{Access, Cap, Decider, Files, Grant, Network, Policy, Region, Rules};
pub use resolve::{Surroundings, resolve};
