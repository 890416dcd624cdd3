//! The words of the exec-server protocol: methods, params, results and errors. No I/O.
//!
//! Facts come from `docs/protocol.md`; section numbers in the docs of this crate mean that file.

pub mod bytes;
pub mod discovery;
pub mod encode;
pub mod envelope;
pub mod environment;
pub mod error;
pub mod filesystem;
pub mod http;
pub mod ids;
pub mod kimi;
pub mod network;
pub mod path;
pub mod process;
pub mod registry;
pub mod relay;
pub mod sandbox;
#[cfg(test)]
mod schema;
pub mod seq;
pub mod session;
pub mod tcp;

pub use bytes::{Base64Bytes, Block};
pub use encode::WireEncode;
pub use envelope::{Incoming, RequestId};
pub use error::{ErrorCode, RpcError, StartFailure};
pub use ids::{EnvironmentId, ProcessId, SessionId};
pub use path::WirePath;
pub use seq::Seq;

/// Ties a request's name, params and result together (section 1.1).
pub trait Method {
    /// The method's name on the wire.
    const NAME: &'static str;
    /// What the client sends.
    type Params: serde::Serialize + serde::de::DeserializeOwned + Send + 'static;
    /// What the server answers.
    type Result: WireEncode + serde::Serialize + serde::de::DeserializeOwned + Send + 'static;
}

/// Ties a notification's name and params together.
pub trait Notification {
    /// The notification's name on the wire.
    const NAME: &'static str;
    /// What the notification carries.
    type Params: serde::Serialize + serde::de::DeserializeOwned + Send + 'static;
}

/// Declares methods: `/// doc` `Type: "name" (Params) -> Result;`.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident: $wire:literal ($params:ty) -> $result:ty;)*) => {
        $crate::dialect_methods! {
            $($(#[$doc])* $name: $wire ($params) -> $result;)*
        }

        /// Puts these methods, which `from` calls, into the schema.
        #[cfg(test)]
        pub(crate) fn describe_methods(page: &mut $crate::schema::Page, from: &str) {
            $(page.method::<$name>(from);)*
        }
    };
}
pub(crate) use methods;

/// Declares methods of a dialect, which the schema does not have.
macro_rules! dialect_methods {
    ($($(#[$doc:meta])* $name:ident: $wire:literal ($params:ty) -> $result:ty;)*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl $crate::Method for $name {
            const NAME: &'static str = $wire;
            type Params = $params;
            type Result = $result;
        })*
    };
}
pub(crate) use dialect_methods;

/// Declares notifications: `/// doc` `Type: "name" (Params);`.
macro_rules! notifications {
    ($($(#[$doc:meta])* $name:ident: $wire:literal ($params:ty);)*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl $crate::Notification for $name {
            const NAME: &'static str = $wire;
            type Params = $params;
        })*

        /// Puts these notifications, which `from` sends, into the schema.
        #[cfg(test)]
        pub(crate) fn describe_notifications(page: &mut $crate::schema::Page, from: &str) {
            $(page.notification::<$name>(from);)*
        }
    };
}
pub(crate) use notifications;
