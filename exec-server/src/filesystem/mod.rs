//! Files on the local disk: the work behind every `fs/*` method (section 10).
//!
//! The functions are synchronous and may wait for a disk: run them on a worker thread. Exceptions, made for the
//! event loop: [`metadata_if_cached`], [`resolves_without_io`], and the table calls of [`Handles`].

mod cached;
mod canonicalize;
mod copy;
mod directory;
mod dispose;
mod error;
mod handles;
mod local_mounts;
mod metadata;
pub(crate) mod order;
mod path;
mod read;
mod remove;
mod sandbox;
mod tree;
mod walk;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub use cached::{learn_filesystem, metadata_if_cached, resolves_without_io};
pub use canonicalize::canonicalize;
pub use copy::copy;
pub use directory::{create_directory, read_directory};
pub use error::rpc_error;
pub use handles::{Claim, Handles, Reservation};
pub use metadata::get_metadata;
pub(crate) use order::{Before, FileOrder, Touched, Touches, changes, reads};
pub(crate) use path::local;
pub(crate) use read::open_regular;
pub use read::{WholeFile, read_file};
pub use remove::remove;
pub use sandbox::refuse_unenforced;
pub use walk::walk;
pub use watch::{ArmedWatch, MissingWatch};
pub(crate) use write::open_to_replace;
pub use write::write_file;
