//! Files on the local disk: the work behind every `fs/*` method (section 10).
//!
//! A method is a file here that implements [`PathMethod`], its `mod` line and its line in [`whole_file_methods`]. Those that go on
//! with an open file or a table are done by `Machine`.
//!
//! The functions are synchronous and may wait for a disk: run them on a worker thread. Exceptions, made for the
//! event loop: [`PathMethod::AT_ONCE`], [`resolves_without_io`], and the table calls of [`Handles`].

mod blocks;
mod cached;
mod canonicalize;
mod capabilities;
mod close_later;
mod content;
mod copy;
mod directory;
mod error;
mod handles;
mod hash;
mod kind;
mod local_mounts;
mod metadata;
mod method;
mod open;
mod order;
mod path;
mod place;
mod read;
mod remove;
mod rename;
mod stat;
mod tree;
mod walk;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use blocks::FileBlocks;
pub(crate) use cached::{learn_filesystem, resolves_without_io};
pub(crate) use capabilities::{ScanRoot, ScanSkills};
pub(crate) use error::rpc_error;
pub(crate) use handles::{Claim, Handles};
pub(crate) use method::{AtOnce, How, PathMethod, PathUse};
pub(crate) use open::{Opened, ToOpen};
pub(crate) use order::{Before, FileOrder, Position, Touched, touched, touched_path};
pub(crate) use read::{WholeFile, open_regular, piece, read_piece};
pub(crate) use watch::{ArmedWatch, MissingWatch};
pub(crate) use write::{content, empty, open_to_write, write};

/// The `fs/*` methods that are done as their [`PathMethod`] says, handed to the macro `$use`: the name in Rust and the type in
/// the protocol, `fs`.
macro_rules! whole_file_methods {
    ($use:ident $($others:tt)*) => {
        $use! {
            /// Kind, size and times (10.4).
            get_metadata: fs::GetMetadata;
            /// Makes a directory (10.3).
            create_directory: fs::CreateDirectory;
            /// The real path (10.5).
            canonicalize: fs::Canonicalize;
            /// The names in a directory (10.6).
            read_directory: fs::ReadDirectory;
            /// A tree, breadth first (10.7).
            walk: fs::Walk;
            /// Removes a file or a tree (10.8).
            remove: fs::Remove;
            /// Copies a file or a tree (10.9).
            copy: fs::Copy;
            /// All that a copy keeps of a file (an addition).
            stat: fs::GetEntry;
            /// The names in a directory, with all that a copy keeps of each (an addition).
            list_entries: fs::List;
            /// The hash of a file, or of its beginning (an addition).
            hash: fs::Hash;
            /// Makes a symlink (an addition).
            link: fs::Link;
            /// Gives a file its mode, time, size and name (an addition).
            place: fs::Place;
            $($others)*
        }
    };
}
pub(crate) use whole_file_methods;

/// All `fs/*` methods, handed to the macro `$use`. What is done for those that stand here is in `Machine`.
macro_rules! file_methods {
    ($use:ident) => {
        $crate::filesystem::whole_file_methods! {
            $use
            /// A whole file (10.1).
            read_file: fs::ReadFile;
            /// Creates or replaces a file's content (10.2).
            write_file: fs::WriteFile;
            /// Opens a handle (10.10).
            open: fs::Open;
            /// Reads a block of an open file (10.10).
            read_block: fs::ReadBlock;
            /// Writes a block of an open file (10.10).
            write_block: fs::WriteBlock;
            /// Closes a handle (10.10).
            close: fs::Close;
            /// Watches paths that do not exist (10.11).
            watch_missing: fs::WatchMissing;
        }
    };
}
pub(crate) use file_methods;
