//! What a program or a file operation may touch, and how the kernel is made to enforce it (section 14).
//!
//! [`resolve`] turns the client's profile into a [`Policy`], one plain value.

mod abilities;
mod confiner;
mod error;
mod explain;
pub mod files;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod globs;
mod kernel_mounts;
pub mod launcher;
mod lookups;
mod old_form;
mod patterns;
mod placeholders;
mod policy;
mod program;
mod promises;
mod protect;
mod resolve;
mod situation;
mod spares;
pub(crate) mod stack;
mod start;
mod task;
mod wire;

#[cfg(test)]
mod tests;

pub use abilities::{Abilities, Finding, Limit, Without};
pub use confiner::{ConfineRefusal, Confined, Confiner, NamespaceUse, PidNamespace, WithoutNamespaces};
pub use error::PolicyError;
pub use explain::Explanation;
#[cfg(feature = "fuzzing")]
pub use fuzzing::read_again;
pub use old_form::{Unwrapped, unwrap};
pub use placeholders::Held;
pub use policy::{Access, Decider, Files, NetworkRight, Policy, Region, Rule, Rules};
pub use program::{ConfinedProgram, StartError};
pub use resolve::{PolicyBounds, Surroundings, resolve};
pub(crate) use task::PASSED_AT;
pub use wire::{FIRST_SPARE, spare};
