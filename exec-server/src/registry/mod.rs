//! What harnesses and executors ask of a registry, and the websockets to the rendezvous that it names (`remote.md`).
//!
//! [`RegistryClient`] makes the requests of both. A harness asks the way to an environment (`connect`); an executor
//! registers and has handshakes validated (`register`).

mod answer;
mod client;
mod connect;
mod contract;
mod credential;
mod direct;
mod error;
mod last_heard;
mod register;
mod target;
mod upgrade;

pub use answer::Registration;
pub use connect::RegistryEnvironment;
pub use contract::{Contract, UnknownContract};
pub use credential::{
    BEARER_VARIABLE, Credential, CredentialOrigin, CredentialSource, Fixed, NoCredential, Recovery,
};
pub use direct::{AwsKeySource, AwsKeys, AwsSigner};
pub use error::{Cause, RemoteError};
pub use target::Target;

pub(crate) use connect::{ConnectRefusal, HarnessRegistry};
pub(crate) use direct::DirectRegistry;
pub(crate) use last_heard::LastHeard;
pub(crate) use register::ExecutorRegistry;
pub(crate) use upgrade::{Socket, UpgradeError, bounds, in_brackets, is_nobody, refused, request, upgrade};
