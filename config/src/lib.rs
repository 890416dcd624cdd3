//! Home directory, configuration layers and -c overrides, merged into one typed configuration.
//!
//! Everything follows releases 0.169 and 0.171 (`login.md` 1, 12). This crate reads no environment variable and no
//! terminal: the binary hands over what it found.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use codex_config::{Overrides, Sources, home, load};
//!
//! let config = load(&Sources {
//!     home: home::find(None, Some("/home/dev".as_ref()))?,
//!     system: codex_config::SYSTEM.into(),
//!     cwd: "/srv/app".into(),
//!     overrides: Overrides::parse(&["forced_login_method=api".into()], &[], &[])?,
//!     strict: false,
//! })?;
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod environments;
mod error;
mod exec_server;
pub mod features;
pub mod file;
pub mod home;
mod keys;
mod layer;
mod limits;
mod load;
mod merge;
mod number;
mod overrides;
mod project;
mod requirements;
#[cfg(test)]
mod schema;
pub mod selection;
mod shape;
#[cfg(test)]
mod testing;
mod unknown;

pub use error::ConfigError;
pub use exec_server::{
    ExecServerConfig, Leftovers, RendezvousConfig, SandboxConfig, WithoutNamespaces, WsAuth,
};
pub use features::Features;
pub use limits::Limits;
pub use load::{Config, Sources, load, load_exec_server};
pub use number::Number;
pub use overrides::{OverrideError, Overrides, UnclearOverride};
pub use shape::{LoginMethod, StoreMode};

/// The directory of the system's own configuration.
pub const SYSTEM: &str = "/etc/codex";
