//! Environments that are written down: `environments.toml`, which released clients read as well (protocol.md 15.1), and
//! our own file beside it for what they would refuse.

mod edit;
mod file;
mod list;
#[cfg(test)]
mod tests;

pub use edit::{EditError, Edited, edit};
pub use file::{CheckUrl, is_paused, load};
pub use list::{
    Environments, EnvironmentsError, InUse, LOCAL, NONE, Named, OWN_FILE, Place, REMOTE, SHARED_FILE,
    check_id,
};
