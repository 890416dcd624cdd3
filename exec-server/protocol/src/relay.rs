//! The relay's frames (`remote.md` section 4), as the schema `proto/relay.proto` has them.

#![allow(clippy::doc_markdown, missing_docs)]

include!(concat!(env!("OUT_DIR"), "/codex.relay.v1.rs"));
