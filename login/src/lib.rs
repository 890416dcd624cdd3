//! Credentials shared with released Codex programs: where they are kept, how they are refreshed, how one signs in.
//!
//! - [`Store`] keeps [`StoredCredentials`] in a file, a keyring or memory.
//! - [`load`] finds the sign-in that counts and yields [`Auth`], which is what a request needs.
//! - [`Manager`] does so for a whole process, refreshes ahead of time and recovers from a refusal.
//! - [`signin`] signs a user in, by browser or by device code.
//! - [`revoke`] and [`personal_token`] are single requests.
//!
//! Nothing here reads the environment: the binary hands over [`Variables`]. No HTTP client is built before a request is
//! made.

mod auth;
pub mod claims;
mod client;
mod credentials;
mod http_error;
mod load;
mod manager;
mod opaque;
pub mod personal_token;
mod recovery;
mod refresh;
mod restrictions;
mod revoke;
pub mod signin;
mod store;
mod variables;
mod workload;

pub use auth::Auth;
pub use client::{ClientError, ClientSettings, DEFAULT_ORIGINATOR, HttpClient, REQUEST_TIMEOUT};
pub use codex_outgoing::Proxies;
pub use codex_secret::{Secret, SignInKind};
pub use credentials::{DocumentError, Provenance, StoredCredentials, Tokens, new_login_owner_id};
pub use load::{LoadError, Settings, load};
pub use manager::Manager;
pub use personal_token::{PersonalToken, PersonalTokenError};
pub use recovery::{GiveUp, Outcome, Recovery};
pub use refresh::{DEFAULT_CLIENT_ID, DEFAULT_ISSUER, PermanentFailure, RefreshError, RefreshReason};
pub use restrictions::Restrictions;
pub use revoke::{RevokeError, revoke};
pub use store::{LockError, Store, StoreError};
pub use variables::{Variables, WorkloadVariables};
pub use workload::WorkloadError;
