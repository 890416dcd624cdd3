//! The words of the wire against the specification's tables and the recorded conversations.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod encoders;
mod envelopes;
mod examples;
mod networks;
mod paths;
mod recorded;
mod registry;
mod sandboxes;
