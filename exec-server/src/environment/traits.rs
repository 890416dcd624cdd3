//! What an environment can do, as traits whose methods are the protocol's. A method is begun when its future is first
//! polled; those of one environment take effect in the order in which they are begun, as requests of one connection do.

use std::pin::Pin;

use async_trait::async_trait;
use futures_util::Stream;
use tokio::sync::watch;

use super::events::ProcessEvent;
use crate::filesystem::file_methods;
use crate::protocol::{Method, RpcError, discovery, filesystem as fs, http, process, tcp};

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// It was refused or did not work, as the protocol says it (section 17).
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The environment can't be reached any more; whether the operation was done is not known.
    #[error("{0}")]
    Lost(String),
}

/// Why a body ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the response body broke off: {0}")]
pub struct BodyError(pub String);

/// What is known of an environment's `fs/watchMissing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MissingState {
    /// The watch that fired last; 0 for none.
    pub fired: u64,
    /// Losses of the connection so far; each ended the watch that ran.
    pub losses: u64,
}

/// A response's body as it comes; after an error nothing more does.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Vec<u8>, BodyError>> + Send>>;

/// What becomes of a program, to its end.
pub type Events = Pin<Box<dyn Stream<Item = ProcessEvent> + Send>>;

/// Declares a trait whose methods take and give what the protocol's methods do.
macro_rules! capability {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$method_doc:meta])* $method:ident: $wire:ty;)*
        $(=> { $($more:tt)* })?
    }) => {
        $(#[$doc])*
        #[async_trait]
        pub trait $name: Send + Sync {
            $($(#[$method_doc])*
            async fn $method(
                &self,
                params: <$wire as Method>::Params,
            ) -> Result<<$wire as Method>::Result, CallError>;)*

            $($($more)*)?
        }
    };
}

/// Hands every `process/*` method but `process/read` to the macro `$use`: its name in Rust and its type in the protocol.
macro_rules! program_methods {
    ($use:ident) => {
        $use! {
            /// Starts a program (8.1).
            start: process::Start;
            /// Writes to stdin or the terminal (8.4).
            write: process::Write;
            /// Sends a signal (8.5).
            signal: process::Signal;
            /// Ends a process and its tree (8.5).
            terminate: process::Terminate;
            /// Lists the session's processes (extension).
            list: process::List;
            /// Lists the logs that are kept on disk (extension).
            list_logs: process::ListLogs;
            /// Waits for a process's end (extension).
            wait: process::Wait;
            /// Changes a terminal's size (extension).
            resize: process::Resize;
            /// Ends a process's stdin (extension).
            close_stdin: process::CloseStdin;
            /// Takes a process's input over, until somebody else does (extension).
            attach: process::Attach;
        }
    };
}
pub(crate) use program_methods;

macro_rules! programs {
    ($($methods:tt)*) => {
        capability! {
            /// Runs programs (section 8). Output is read with [`Processes::read`], by number, or followed with [`Processes::follow`].
            Processes {
                /// Reads retained output, waiting for more (8.3).
                read: process::Read;
                $($methods)*
                => {
                    /// Starts a program, and gives what becomes of it, in order and without loss: who takes the events sets the
                    /// program's pace. Dropping them before the end ends the program with its tree.
                    async fn follow(&self, params: process::StartParams) -> Result<Events, CallError>;
                }
            }
        }
    };
}
program_methods!(programs);

macro_rules! files {
    ($($methods:tt)*) => {
        capability! {
            /// Reads and changes files (section 10).
            Files {
                $($methods)*
                => {
                    /// Tells which watch fired last, and whether something ended them all (10.11).
                    fn missing_changed(&self) -> watch::Receiver<MissingState>;
                }
            }
        }
    };
}
file_methods!(files);

capability! {
    /// Makes HTTP requests (section 11).
    Http {
        /// Makes one request (11.1).
        request: http::Request;
        => {
            /// Makes one request, and gives its body as it comes (11.2). Dropping the body ends what can be ended.
            async fn stream(
                &self,
                params: http::RequestParams,
            ) -> Result<(http::RequestResult, Pieces), CallError>;
        }
    }
}

/// Hands every method of section 12 to the macro `$use`: its name in Rust and its type in the protocol.
macro_rules! discovery_methods {
    ($use:ident) => {
        $use! {
            /// Reads the machine's configuration, as far as it is asked for (12.1).
            read_config: discovery::ReadConfig;
            /// Finds skills and plugins below directories (12.2).
            discover_roots: discovery::DiscoverRoots;
            /// Finds what is installed for the server's user (12.3).
            discover: discovery::Discover;
        }
    };
}
pub(crate) use discovery_methods;

macro_rules! discoveries {
    ($($methods:tt)*) => {
        capability! {
            /// Tells what is configured and installed on a machine (section 12).
            Discovery {
                $($methods)*
            }
        }
    };
}
discovery_methods!(discoveries);

/// Hands every `tcp/*` method to the macro `$use`: its name in Rust and its type in the protocol.
macro_rules! tcp_methods {
    ($use:ident) => {
        $use! {
            /// Connects from the machine to a host.
            connect: tcp::Connect;
            /// Listens on a port of the machine.
            listen: tcp::Listen;
            /// Waits for the next connection to such a port.
            accept: tcp::Accept;
            /// Waits for the next bytes of a stream.
            read_stream: tcp::Read;
            /// Sends bytes on a stream.
            write_stream: tcp::Write;
            /// Says that nothing more is sent on a stream.
            shutdown_stream: tcp::Shutdown;
            /// Closes a stream or a listener.
            close_stream: tcp::Close;
        }
    };
}
pub(crate) use tcp_methods;

macro_rules! tcps {
    ($($methods:tt)*) => {
        capability! {
            /// Byte streams to and from the machine's network. Servers that have none refuse each method with `-32601`.
            Tcp {
                $($methods)*
            }
        }
    };
}
tcp_methods!(tcps);
